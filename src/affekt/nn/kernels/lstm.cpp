// The recurrence of a bidirectional LSTM, on inputs that are already projected (see nn/recurrence.py for the equations).
//
// projected, gates, grads [utterances, steps, 2, 4 cells] in the order i, f, o, g; states, cells [utterances, steps, 2,
// cells]; weights [2, cells, 4 cells], and for the backward pass transposed, [2, 4 cells, cells]. Cells are a multiple
// of 16. Direction 0 reads steps 0 to length - 1, direction 1 reads them from the last to the first. Steps past the end
// are not read, and must be zero in the outputs before the call. Utterances first..last as in conv_module.cpp.

#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace {

constexpr int LANES = 16, MAX_CELLS = 256;
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Whole __attribute__((vector_size(64)));

inline Floats load(const float* p) { Floats v; std::memcpy(&v, p, sizeof v); return v; }
inline void store(float* p, Floats v) { std::memcpy(p, &v, sizeof v); }
inline Floats least(Floats a, Floats b) { return a < b ? a : b; }
inline Floats most(Floats a, Floats b) { return a > b ? a : b; }

// e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln 2 / 2, and Taylor's series of e^r: its first omitted term is below
// 1.2e-8. Adding 1.5 * 2^23 rounds to a whole number, which then stands in the lowest bits.
inline Floats exponential(Floats x) {
  const Floats magic = Floats{} + 12582912.0f;
  x = least(most(x, Floats{} - 87.0f), Floats{} + 87.0f);
  Floats shifted = x * 1.44269504f + magic, n = shifted - magic;
  Floats r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;  // ln 2 = 0.693359375 - 2.12194440e-4: the first product is exact
  Floats p = Floats{} + 1.0f / 5040;
  for (float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) p = p * r + c;
  Whole power = ((Whole)shifted - (Whole)magic + 127) << 23;
  return p * (Floats)power;
}

inline Floats sigmoid(Floats x) { return 1.0f / (1.0f + exponential(-x)); }
inline Floats hyperbolic_tangent(Floats x) { return 1.0f - 2.0f / (1.0f + exponential(2.0f * x)); }

struct Shape {
  int steps, cells;

  int64_t row(int n, int step, int direction) const { return (int64_t(n) * steps + step) * 2 + direction; }
};

// out[j] = start[j] + sum_k x[k] w[k, j] for j < columns, a multiple of 16; four vectors of columns stay in registers.
template <int VECTORS>
inline void multiply_columns(const float* start, const float* x, const float* w, int rows, int columns, float* out) {
  Floats sum[VECTORS];
  for (int v = 0; v < VECTORS; v++) sum[v] = load(start + v * LANES);
  for (int k = 0; k < rows; k++)
    for (int v = 0; v < VECTORS; v++) sum[v] += x[k] * load(w + int64_t(k) * columns + v * LANES);
  for (int v = 0; v < VECTORS; v++) store(out + v * LANES, sum[v]);
}

inline void multiply(const float* start, const float* x, const float* w, int rows, int columns, float* out) {
  int j = 0;
  for (; j + 8 * LANES <= columns; j += 8 * LANES) multiply_columns<8>(start + j, x, w + j, rows, columns, out + j);
  for (; j < columns; j += LANES) multiply_columns<1>(start + j, x, w + j, rows, columns, out + j);
}

}  // namespace

extern "C" {

void lstm_forward(const float* projected, const float* weights, const int64_t* lengths, float* states, float* cells,
                  float* gates, Shape s, int first, int last) {
  const float zeros[MAX_CELLS] = {};
  const int h = s.cells;
  for (int n = first; n < last; n++)
    for (int d = 0; d < 2; d++) {
      const float *state = zeros, *cell = zeros;
      const int length = int(lengths[n]);
      for (int place = 0; place < length; place++) {
        const int64_t at = s.row(n, d ? length - 1 - place : place, d);
        float *a = gates + at * 4 * h, *now = cells + at * h, *out = states + at * h;
        multiply(projected + at * 4 * h, state, weights + int64_t(d) * 4 * h * h, h, 4 * h, a);
        for (int j = 0; j < h; j += LANES) {
          Floats i = sigmoid(load(a + j)), f = sigmoid(load(a + h + j)), o = sigmoid(load(a + 2 * h + j));
          Floats g = hyperbolic_tangent(load(a + 3 * h + j)), c = f * load(cell + j) + i * g;
          store(a + j, i); store(a + h + j, f); store(a + 2 * h + j, o); store(a + 3 * h + j, g);
          store(now + j, c);
          store(out + j, o * hyperbolic_tangent(c));
        }
        state = out, cell = now;
      }
    }
}

void lstm_backward(const float* grad, const float* transposed, const int64_t* lengths, const float* cells,
                   const float* gates, float* grads, Shape s, int first, int last) {
  const float zeros[MAX_CELLS] = {};
  const int h = s.cells;
  for (int n = first; n < last; n++)
    for (int d = 0; d < 2; d++) {
      float dh[MAX_CELLS] = {}, dc[MAX_CELLS] = {};
      const int length = int(lengths[n]);
      for (int place = length - 1; place >= 0; place--) {
        const int step = d ? length - 1 - place : place;
        const int64_t at = s.row(n, step, d);
        const float *a = gates + at * 4 * h, *now = cells + at * h;
        const float* before = place ? cells + s.row(n, d ? step + 1 : step - 1, d) * h : zeros;
        float* out = grads + at * 4 * h;
        for (int j = 0; j < h; j += LANES) {
          Floats i = load(a + j), f = load(a + h + j), o = load(a + 2 * h + j), g = load(a + 3 * h + j);
          Floats bent = hyperbolic_tangent(load(now + j)), to_h = load(dh + j) + load(grad + at * h + j);
          Floats to_c = load(dc + j) + to_h * o * (1.0f - bent * bent);
          store(out + j, to_c * g * i * (1.0f - i));
          store(out + h + j, to_c * load(before + j) * f * (1.0f - f));
          store(out + 2 * h + j, to_h * bent * o * (1.0f - o));
          store(out + 3 * h + j, to_c * i * (1.0f - g * g));
          store(dc + j, to_c * f);
        }
        multiply(zeros, out, transposed + int64_t(d) * 4 * h * h, 4 * h, h, dh);
      }
    }
}

}  // extern "C"

TEAM(lstm_forward)
TEAM(lstm_backward)
