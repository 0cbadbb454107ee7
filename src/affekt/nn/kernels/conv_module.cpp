// One pass over memory for what follows a convolution: batch norm, ReLU, average pooling, dropout.
//
// Tensors are channels-last: x [utterances, frames, mels, channels], channels a multiple of 16. Every function works on
// the utterances first..last, so that callers share them among threads, and leaves sums per utterance, so that the
// result does not depend on how they were shared. `lengths` holds each utterance's valid frames: frames past it are
// neither read nor counted, and are zero in every output. Dropout's mask is a hash of (seed, position): the backward
// pass computes it again instead of storing it.

#include <cstdint>
#include <cstring>

namespace {

constexpr int LANES = 16;
constexpr int MAX_MELS = 1024, MAX_POOL = 4;  // of the first module, whose inputs are gathered on the stack
typedef float Floats __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef int32_t Signs __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));

inline Floats load(const float* p) { Floats v; std::memcpy(&v, p, sizeof v); return v; }
inline void store(float* p, Floats v) { std::memcpy(p, &v, sizeof v); }
inline void add_to(float* p, Floats v) { store(p, load(p) + v); }

inline Floats load(const uint16_t* p) {  // bfloat16 is the upper half of a float
  Halves h;
  std::memcpy(&h, p, sizeof h);
  return (Floats)(__builtin_convertvector(h, Words) << 16);
}

inline void store(uint16_t* p, Floats v) {  // round to nearest, ties to even
  Words bits = (Words)v;
  Halves h = __builtin_convertvector((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, Halves);
  std::memcpy(p, &h, sizeof h);
}

inline Floats select(Signs mask, Floats v) { return (Floats)((Signs)v & mask); }
inline Floats relu(Floats v) { return select(v > 0.0f, v); }

inline double add_up(Floats v) {
  double total = 0;
  for (int i = 0; i < LANES; i++) total += v[i];
  return total;
}

struct Dropout {
  uint32_t seed, salt, threshold;  // an element is dropped where its hash is below threshold = p * 2^32
  float scale;                     // 1 / (1 - p)

  Floats gain(uint32_t position) const {
    static const Words steps = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    Words h = (steps + position) ^ seed;  // MurmurHash3's finalizer, salted in the middle
    h ^= h >> 16; h *= 0x85EBCA6Bu;
    h ^= (h >> 13) ^ salt; h *= 0xC2B2AE35u;
    h ^= h >> 16;
    return select(h >= threshold, Floats{} + scale);
  }
};

struct Shape {
  int frames, mels, channels, pool;
  int pooled_frames() const { return (frames + pool - 1) / pool; }
  int pooled_mels() const { return (mels + pool - 1) / pool; }
  int64_t size() const { return int64_t(frames) * mels * channels; }
  int64_t pooled_size() const { return int64_t(pooled_frames()) * pooled_mels() * channels; }
};

// The input positions that one output position averages over: fewer at the right and the lower edge.
struct Window {
  int t0, t1, f0, f1;
  float weight() const { return 1.0f / float((t1 - t0) * (f1 - f0)); }
};

inline Window window(const Shape& s, int length, int t, int f) {
  int t1 = (t + 1) * s.pool, f1 = (f + 1) * s.pool;
  return {t * s.pool, t1 < length ? t1 : length, f * s.pool, f1 < s.mels ? f1 : s.mels};
}

// The nine inputs of a 3x3 convolution at (t, f); x has a border of one zero on every side.
inline void patch(const float* x, const Shape& s, int t, int f, float* p) {
  for (int i = 0; i < 3; i++) std::memcpy(p + 3 * i, x + int64_t(t + i) * (s.mels + 2) + f, 3 * sizeof *p);
}

// The convolution at N positions at once, whose sums do not wait for each other.
template <int N>
inline void convolve(const float (*p)[9], const Floats* w, Floats bias, Floats* y) {
  for (int i = 0; i < N; i++) y[i] = bias;
  for (int k = 0; k < 9; k++)
    for (int i = 0; i < N; i++) y[i] += p[i][k] * w[k];
}

typedef float Patches[MAX_POOL * MAX_POOL][9];

// The patches of all windows of one row of the output.
inline void gather(const float* x, const Shape& s, int length, int t, Patches* patches) {
  for (int f = 0; f < s.pooled_mels(); f++) {
    Window w = window(s, length, t, f);
    int count = 0;
    for (int i = w.t0; i < w.t1; i++)
      for (int j = w.f0; j < w.f1; j++) patch(x, s, i, j, patches[f][count++]);
  }
}

}  // namespace

extern "C" {

// sums [utterance, 2, channels]: of x and of x squared.
void batch_norm_sums(const uint16_t* x, const int32_t* lengths, float* sums, Shape s, int first, int last) {
  for (int n = first; n < last; n++) {
    const uint16_t* row = x + n * s.size();
    float* sum = sums + int64_t(n) * 2 * s.channels;
    for (int t = 0; t < lengths[n]; t++, row += s.mels * s.channels)
      for (int c = 0; c < s.channels; c += LANES) {
        Floats total{}, squares{};
        for (int f = 0; f < s.mels; f++) {
          Floats v = load(row + f * s.channels + c);
          total += v;
          squares += v * v;
        }
        add_to(sum + c, total);
        add_to(sum + s.channels + c, squares);
      }
  }
}

// y = dropout(pool(relu(x * scale + shift)))
void pool_forward(const uint16_t* x, const int32_t* lengths, const float* scale, const float* shift, uint16_t* y,
                  Shape s, Dropout dropout, int first, int last) {
  for (int n = first; n < last; n++) {
    const uint16_t* in = x + n * s.size();
    int64_t at = n * s.pooled_size();
    for (int t = 0; t < s.pooled_frames(); t++)
      for (int f = 0; f < s.pooled_mels(); f++) {
        if (t * s.pool >= lengths[n]) {
          std::memset(y + at, 0, s.channels * sizeof *y);
          at += s.channels;
          continue;
        }
        Window w = window(s, lengths[n], t, f);
        for (int c = 0; c < s.channels; c += LANES, at += LANES) {
          Floats a = load(scale + c), b = load(shift + c), total{};
          for (int i = w.t0; i < w.t1; i++)
            for (int j = w.f0; j < w.f1; j++) total += relu(load(in + (i * s.mels + j) * s.channels + c) * a + b);
          store(y + at, total * w.weight() * dropout.gain(uint32_t(at)));
        }
      }
  }
}

// With d the gradient that reaches the ReLU's input: sums [utterance, 2, channels] of d and of d * x.
void pool_backward_sums(const uint16_t* x, const int32_t* lengths, const float* scale, const float* shift,
                        const uint16_t* grad, float* sums, Shape s, Dropout dropout, int first, int last) {
  for (int n = first; n < last; n++) {
    const uint16_t* in = x + n * s.size();
    float* sum = sums + int64_t(n) * 2 * s.channels;
    for (int t = 0; t * s.pool < lengths[n]; t++)
      for (int c = 0; c < s.channels; c += LANES) {
        Floats a = load(scale + c), b = load(shift + c), total{}, products{};
        for (int f = 0; f < s.pooled_mels(); f++) {
          int64_t at = n * s.pooled_size() + (int64_t(t) * s.pooled_mels() + f) * s.channels + c;
          Window w = window(s, lengths[n], t, f);
          Floats g = load(grad + at) * w.weight() * dropout.gain(uint32_t(at));
          for (int i = w.t0; i < w.t1; i++)
            for (int j = w.f0; j < w.f1; j++) {
              Floats v = load(in + (i * s.mels + j) * s.channels + c);
              Floats d = select(v * a + b > 0.0f, g);
              total += d;
              products += d * v;
            }
        }
        add_to(sum + c, total);
        add_to(sum + s.channels + c, products);
      }
  }
}

// dx = scale * d + slope * x + offset: the gradient of batch norm, its three coefficients per channel given.
void pool_backward(const uint16_t* x, const int32_t* lengths, const float* scale, const float* shift,
                   const float* slope, const float* offset, const uint16_t* grad, uint16_t* dx, Shape s,
                   Dropout dropout, int first, int last) {
  for (int n = first; n < last; n++) {
    const uint16_t* in = x + n * s.size();
    uint16_t* out = dx + n * s.size();
    int64_t rest = int64_t(lengths[n]) * s.mels * s.channels;
    std::memset(out + rest, 0, (s.size() - rest) * sizeof *out);
    for (int t = 0; t * s.pool < lengths[n]; t++)
      for (int f = 0; f < s.pooled_mels(); f++) {
        Window w = window(s, lengths[n], t, f);
        for (int c = 0; c < s.channels; c += LANES) {
          int64_t at = n * s.pooled_size() + (int64_t(t) * s.pooled_mels() + f) * s.channels + c;
          Floats a = load(scale + c), b = load(shift + c), k = load(slope + c), o = load(offset + c);
          Floats g = load(grad + at) * w.weight() * dropout.gain(uint32_t(at));
          for (int i = w.t0; i < w.t1; i++)
            for (int j = w.f0; j < w.f1; j++) {
              int64_t p = (int64_t(i) * s.mels + j) * s.channels + c;
              Floats v = load(in + p);
              store(out + p, a * select(v * a + b > 0.0f, g) + k * v + o);
            }
        }
      }
  }
}

// From here on x is float [utterances, frames + 2, mels + 2]: one input channel, a border of zeros, zeros past lengths.

// moments [utterance, 9, 10]: sums of the products of the nine inputs of a 3x3 convolution, and (last) of themselves.
// A vector holds the inputs of as many mel bands; its sums are of few frames, before double takes them over.
void patch_moments(const float* x, const int32_t* lengths, double* moments, Shape s, int first, int last) {
  constexpr int FRAMES = 16;
  static thread_local float rows[3][MAX_MELS + 2 + LANES];  // zero past the last band
  std::memset(rows, 0, sizeof rows);
  Words bands;
  for (int i = 0; i < LANES; i++) bands[i] = i;
  for (int n = first; n < last; n++) {
    const float* in = x + int64_t(n) * (s.frames + 2) * (s.mels + 2);
    double* sum = moments + n * 90;
    for (int begin = 0; begin < lengths[n]; begin += FRAMES) {
      int end = begin + FRAMES < lengths[n] ? begin + FRAMES : lengths[n];
      Floats products[9][9] = {}, totals[9] = {};
      for (int t = begin; t < end; t++) {
        for (int i = 0; i < 3; i++)
          std::memcpy(rows[i], in + int64_t(t + i) * (s.mels + 2), (s.mels + 2) * sizeof(float));
        for (int f = 0; f < s.mels; f += LANES) {
          Signs there = bands < uint32_t(s.mels - f);
          Floats p[9];
          for (int k = 0; k < 9; k++) p[k] = select(there, load(rows[k / 3] + f + k % 3));
          for (int i = 0; i < 9; i++) {
            totals[i] += p[i];
            for (int j = i; j < 9; j++) products[i][j] += p[i] * p[j];
          }
        }
      }
      for (int i = 0; i < 9; i++) {
        for (int j = i; j < 9; j++) sum[i * 10 + j] += add_up(products[i][j]);
        sum[i * 10 + 9] += add_up(totals[i]);
      }
    }
    for (int i = 0; i < 9; i++)
      for (int j = 0; j < i; j++) sum[i * 10 + j] = sum[j * 10 + i];
  }
}

// y = dropout(pool(relu(conv3x3(x)))) for one input channel; weight [9, channels] and bias hold the batch norm.
void first_forward(const float* x, const int32_t* lengths, const float* weight, const float* bias, uint16_t* y,
                   Shape s, Dropout dropout, int first, int last) {
  static thread_local Patches patches[MAX_MELS];
  for (int n = first; n < last; n++) {
    const float* in = x + int64_t(n) * (s.frames + 2) * (s.mels + 2);
    for (int t = 0; t < s.pooled_frames(); t++) {
      int64_t row = n * s.pooled_size() + int64_t(t) * s.pooled_mels() * s.channels;
      if (t * s.pool >= lengths[n]) {
        std::memset(y + row, 0, s.pooled_mels() * s.channels * sizeof *y);
        continue;
      }
      gather(in, s, lengths[n], t, patches);
      for (int c = 0; c < s.channels; c += LANES) {
        Floats taps[9], b = load(bias + c);
        for (int k = 0; k < 9; k++) taps[k] = load(weight + k * s.channels + c);
        for (int f = 0; f < s.pooled_mels(); f++) {
          Window w = window(s, lengths[n], t, f);
          int64_t at = row + int64_t(f) * s.channels + c;
          Floats total{}, z[4];
          int count = (w.t1 - w.t0) * (w.f1 - w.f0), i = 0;
          for (; i + 4 <= count; i += 4) {
            convolve<4>(patches[f] + i, taps, b, z);
            for (int k = 0; k < 4; k++) total += relu(z[k]);
          }
          for (; i < count; i++) {
            convolve<1>(patches[f] + i, taps, b, z);
            total += relu(z[0]);
          }
          store(y + at, total * w.weight() * dropout.gain(uint32_t(at)));
        }
      }
    }
  }
}

// With d the gradient that reaches the ReLU's input: sums [utterance, 10, channels] of d * patch and (last) of d.
void first_backward(const float* x, const int32_t* lengths, const float* weight, const float* bias,
                    const uint16_t* grad, float* sums, Shape s, Dropout dropout, int first, int last) {
  static thread_local Patches patches[MAX_MELS];
  for (int n = first; n < last; n++) {
    const float* in = x + int64_t(n) * (s.frames + 2) * (s.mels + 2);
    float* sum = sums + int64_t(n) * 10 * s.channels;
    for (int t = 0; t * s.pool < lengths[n]; t++) {
      gather(in, s, lengths[n], t, patches);
      for (int c = 0; c < s.channels; c += LANES) {
        Floats taps[9], products[9] = {}, total{}, b = load(bias + c);
        for (int k = 0; k < 9; k++) taps[k] = load(weight + k * s.channels + c);
        for (int f = 0; f < s.pooled_mels(); f++) {
          Window w = window(s, lengths[n], t, f);
          int64_t at = n * s.pooled_size() + (int64_t(t) * s.pooled_mels() + f) * s.channels + c;
          Floats g = load(grad + at) * w.weight() * dropout.gain(uint32_t(at)), d[4];
          int count = (w.t1 - w.t0) * (w.f1 - w.f0), i = 0;
          for (; i + 4 <= count; i += 4) {
            convolve<4>(patches[f] + i, taps, b, d);
            for (int j = 0; j < 4; j++) {
              d[j] = select(d[j] > 0.0f, g);
              total += d[j];
            }
            for (int j = 0; j < 4; j++)
              for (int k = 0; k < 9; k++) products[k] += patches[f][i + j][k] * d[j];
          }
          for (; i < count; i++) {
            convolve<1>(patches[f] + i, taps, b, d);
            d[0] = select(d[0] > 0.0f, g);
            total += d[0];
            for (int k = 0; k < 9; k++) products[k] += patches[f][i][k] * d[0];
          }
        }
        for (int k = 0; k < 9; k++) add_to(sum + k * s.channels + c, products[k]);
        add_to(sum + 9 * s.channels + c, total);
      }
    }
  }
}

}  // extern "C"

TEAM(batch_norm_sums)
TEAM(pool_forward)
TEAM(pool_backward_sums)
TEAM(pool_backward)
TEAM(patch_moments)
TEAM(first_forward)
TEAM(first_backward)
