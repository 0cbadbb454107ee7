// Kernels shared among the threads of OpenMP, which are torch's own where torch has brought the same libgomp: threads of
// another pool would have to be woken, while torch's wait actively on the cores that they need.

#ifdef _OPENMP
#include <omp.h>
#include <tuple>

namespace {

// A kernel's last two arguments are the first utterance and the one after the last; its team's are how many utterances
// there are and how many threads share them.
template <class Kernel, Kernel kernel>
struct Team;

template <class... Arguments, void (*kernel)(Arguments...)>
struct Team<void (*)(Arguments...), kernel> {
  static void run(Arguments... arguments) {
    const std::tuple<Arguments...> whole(arguments...);
    constexpr auto last = sizeof...(Arguments) - 1, first = last - 1;
    const long utterances = std::get<first>(whole);
#pragma omp parallel num_threads(std::get<last>(whole))
    {
      const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
      auto part = whole;
      std::get<first>(part) = int(utterances * thread / threads);
      std::get<last>(part) = int(utterances * (thread + 1) / threads);
      std::apply(kernel, part);
    }
  }
};

}  // namespace

#define TEAM(kernel) extern "C" { decltype(&kernel) kernel##_team = Team<decltype(&kernel), kernel>::run; }
#else
#define TEAM(kernel)
#endif
