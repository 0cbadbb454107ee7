// 3x3 convolution, stride 1, zeros around the image, with 2.25 times fewer products: Winograd's F(2x2, 3x3)
// (Lavin & Gray 2016, "Fast algorithms for convolutional neural networks"), bfloat16 on AVX512-BF16.
//
// In one dimension, two outputs of a filter of three taps,
//     y0 = d0 g0 + d1 g1 + d2 g2,    y1 = d1 g0 + d2 g1 + d3 g2,
// take six products. Four suffice:
//     m0 = (d0 - d2) g0               m1 = (d1 + d2) (g0 + g1 + g2) / 2
//     m3 = (d3 - d1) g2               m2 = (d2 - d1) (g0 - g1 + g2) / 2
//     y0 = m0 + m1 + m2               y1 = m1 - m2 + m3
// In m1 + m2 the tap of d1 is g1 and those of d2 are g0 + g2; m0 turns the latter into d0 g0 + d2 g2. In m1 - m2 the
// taps of d1 are g0 + g2 and that of d2 is g1; m3 turns the former into d1 g0 + d3 g2. B' holds the signs of d, G the
// sums of g and A' the signs of m. Applied to rows and to columns, 16 products replace 36, and 36 / 16 = 2.25.
//
// The image is cut into tiles of 2x2 outputs, each of which depends on a 4x4 patch d of inputs. With the filter g,
//     Y = A' [(G g G') * (B' d B)] A
// where * is element by element: summed over the input channels that is 16 matrix products of [tiles, inputs] with
// [inputs, outputs]. Its gradient with respect to g is G' [(B' d B) * (A dY A')] G, summed over tiles: 16 more. The
// entries of A and B are 0 and +-1, so a transformed pixel is the sum of four, rounded once more to bfloat16; products
// are accumulated in float32.
//
// Tensors are channels-last, [utterances, frames, mels, channels], channels a multiple of 32. As in conv_module.cpp
// every function works on the utterances first..last, and what it leaves depends on the utterance alone; frames past
// `lengths` count as zero, and are zero in every output.

#include <immintrin.h>

#include <cstdint>
#include <cstring>
#include <vector>

namespace {

using Floats = __m512;

constexpr int LANES = 16;
constexpr int TILES = 48;  // whose transforms fit the second-level cache
constexpr int PAIRS = 48;  // of tiles, of which the filters' gradient takes more at a time
constexpr int TILE_ROWS = TILES + 1, PAIR_ROWS = PAIRS + 1;  // odd, lest the 16 matrices share sets of the cache
constexpr int MAX_CHANNELS = 1024;

inline Floats load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
inline void add_to(float* p, Floats v) { store(p, load(p) + v); }

inline Floats load(const uint16_t* p) {  // bfloat16 is the upper half of a float
  __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

inline void store(uint16_t* p, Floats v) { _mm256_storeu_si256((__m256i*)p, (__m256i)_mm512_cvtneps_pbh(v)); }

// Two numbers of each lane side by side, as vdpbf16ps multiplies them.
inline void store_pairs(uint32_t* p, Floats even, Floats odd) {
  static const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
                                                23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  _mm512_storeu_si512(p, _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(odd, even)));
}

struct Shape {
  int frames, mels, inputs, outputs;
  int columns() const { return (mels + 1) / 2; }
  int tiles(int length) const { return (length + 1) / 2 * columns(); }
  int64_t pixels() const { return int64_t(frames) * mels; }
};

// Width of the column panels in which matrices are stored and multiplied.
inline int panel(int channels) { return channels % 64 == 0 ? 64 : 32; }

// The valid frames of an utterance; pixels outside are zero.
struct Image {
  const uint16_t* pixels;
  int length, mels, channels;

  const uint16_t* at(int t, int f) const {
    static const uint16_t zeros[MAX_CHANNELS] = {};
    return t < 0 || t >= length || f < 0 || f >= mels ? zeros : pixels + (int64_t(t) * mels + f) * channels;
  }
};

// The pixels that a tile covers: SIZE x SIZE, the first at (t, f).
template <int SIZE>
struct Patch {
  const uint16_t* at[SIZE][SIZE];

  Patch(const Image& x, int t, int f) {
    for (int i = 0; i < SIZE; i++)
      for (int j = 0; j < SIZE; j++) at[i][j] = x.at(t + i, f + j);
  }
};

// B' d B
inline void transform(const Patch<4>& d, int c, Floats v[16]) {
  Floats rows[4][4];
  for (int j = 0; j < 4; j++) {
    Floats d0 = load(d.at[0][j] + c), d1 = load(d.at[1][j] + c), d2 = load(d.at[2][j] + c), d3 = load(d.at[3][j] + c);
    rows[0][j] = d0 - d2;
    rows[1][j] = d1 + d2;
    rows[2][j] = d2 - d1;
    rows[3][j] = d3 - d1;
  }
  for (int i = 0; i < 4; i++) {
    const Floats* r = rows[i];
    v[4 * i] = r[0] - r[2];
    v[4 * i + 1] = r[1] + r[2];
    v[4 * i + 2] = r[2] - r[1];
    v[4 * i + 3] = r[3] - r[1];
  }
}

// A dY A'
inline void transform(const Patch<2>& d, int c, Floats v[16]) {
  Floats rows[4][2];
  for (int j = 0; j < 2; j++) {
    Floats d0 = load(d.at[0][j] + c), d1 = load(d.at[1][j] + c);
    rows[0][j] = d0;
    rows[1][j] = d0 + d1;
    rows[2][j] = d0 - d1;
    rows[3][j] = d1;
  }
  for (int i = 0; i < 4; i++) {
    v[4 * i] = rows[i][0];
    v[4 * i + 1] = rows[i][0] + rows[i][1];
    v[4 * i + 2] = rows[i][0] - rows[i][1];
    v[4 * i + 3] = rows[i][1];
  }
}

// A' m A
inline void untransform(const Floats m[16], Floats y[2][2]) {
  Floats rows[2][4];
  for (int j = 0; j < 4; j++) {
    rows[0][j] = m[j] + m[4 + j] + m[8 + j];
    rows[1][j] = m[4 + j] - m[8 + j] + m[12 + j];
  }
  for (int i = 0; i < 2; i++) {
    y[i][0] = rows[i][0] + rows[i][1] + rows[i][2];
    y[i][1] = rows[i][1] - rows[i][2] + rows[i][3];
  }
}

// G' u G
inline void untransform_filter(const Floats u[16], Floats g[9]) {
  Floats rows[3][4], half = _mm512_set1_ps(0.5f);
  for (int j = 0; j < 4; j++) {
    Floats sum = (u[4 + j] + u[8 + j]) * half;
    rows[0][j] = u[j] + sum;
    rows[1][j] = (u[4 + j] - u[8 + j]) * half;
    rows[2][j] = sum + u[12 + j];
  }
  for (int i = 0; i < 3; i++) {
    Floats sum = (rows[i][1] + rows[i][2]) * half;
    g[3 * i] = rows[i][0] + sum;
    g[3 * i + 1] = (rows[i][1] - rows[i][2]) * half;
    g[3 * i + 2] = sum + rows[i][3];
  }
}

// A matrix whose elements are pairs of bfloat16: element (row, k) is at data[row * row_stride + k * step].
struct Pairs {
  const uint32_t* data;
  int64_t row_stride, step;
};

// c [ROWS, PANEL], its rows `stride` apart: (c +) a [ROWS, depth] b [depth, PANEL]
template <int PANEL, int ROWS, bool ADD>
inline void multiply(Pairs a, const uint32_t* b, int depth, float* c, int64_t stride) {
  constexpr int WIDTH = PANEL / LANES;
  Floats sum[ROWS][WIDTH];
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 8
    for (int j = 0; j < WIDTH; j++) {
      sum[i][j] = Floats{};
      if (ADD) _mm_prefetch((const char*)(c + i * stride + j * LANES), _MM_HINT_T0);
    }
  for (int k = 0; k < depth; k++, a.data += a.step, b += PANEL) {
    __m512bh right[WIDTH];
#pragma GCC unroll 8
    for (int j = 0; j < WIDTH; j++) right[j] = (__m512bh)_mm512_loadu_si512(b + j * LANES);
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++) {
      __m512bh left = (__m512bh)_mm512_set1_epi32(a.data[i * a.row_stride]);
#pragma GCC unroll 8
      for (int j = 0; j < WIDTH; j++) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], left, right[j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 8
    for (int j = 0; j < WIDTH; j++) {
      float* p = c + i * stride + j * LANES;
      store(p, ADD ? load(p) + sum[i][j] : sum[i][j]);
    }
}

// The same for any even number of rows, in blocks that fit the registers.
template <int PANEL, bool ADD>
void product(Pairs a, int rows, const uint32_t* b, int depth, float* c, int64_t stride) {
  constexpr int ROWS = PANEL == 64 ? 6 : 8;
  int i = 0;
  for (; i + ROWS <= rows; i += ROWS, a.data += ROWS * a.row_stride, c += ROWS * stride)
    multiply<PANEL, ROWS, ADD>(a, b, depth, c, stride);
  for (; i < rows; i += 2, a.data += 2 * a.row_stride, c += 2 * stride)
    multiply<PANEL, 2, ADD>(a, b, depth, c, stride);
}

// v [16, TILE_ROWS, channels]: the transformed patches of tiles first..last
void transform_inputs(const Image& x, const Shape& s, int first, int last, uint16_t* v) {
  for (int i = first; i < last; i++, v += s.inputs) {
    Patch<4> patch(x, i / s.columns() * 2 - 1, i % s.columns() * 2 - 1);
    for (int c = 0; c < s.inputs; c += LANES) {
      Floats one[16];
      transform(patch, c, one);
      for (int p = 0; p < 16; p++) store(v + p * TILE_ROWS * s.inputs + c, one[p]);
    }
  }
}

// m [16, TILE_ROWS, PANEL]: the products of the transformed patches with the filters of a panel of outputs
template <int PANEL>
void multiply_tiles(const uint16_t* v, const uint16_t* filters, const Shape& s, int tiles, float* m) {
  int even = (tiles + 1) / 2 * 2;
  for (int p = 0; p < 16; p++, v += TILE_ROWS * s.inputs, filters += s.inputs * s.outputs, m += TILE_ROWS * PANEL) {
    Pairs a{(const uint32_t*)v, s.inputs / 2, 1};
    product<PANEL, false>(a, even, (const uint32_t*)filters, s.inputs / 2, m, PANEL);
  }
}

// A panel of y [frames, mels, outputs], from m [16, TILE_ROWS, PANEL] of tiles first..last
template <int PANEL>
void untransform_outputs(const float* m, const float* bias, const Shape& s, int length, int first, int last,
                         uint16_t* y) {
  for (int i = first; i < last; i++, m += PANEL) {
    int t = i / s.columns() * 2, f = i % s.columns() * 2;
    for (int c = 0; c < PANEL; c += LANES) {
      Floats one[16], pixels[2][2];
      for (int p = 0; p < 16; p++) one[p] = load(m + p * TILE_ROWS * PANEL + c);
      untransform(one, pixels);
      for (int k = 0; k < 2 && t + k < length; k++)
        for (int l = 0; l < 2 && f + l < s.mels; l++)
          store(y + (int64_t(t + k) * s.mels + f + l) * s.outputs + c, pixels[k][l] + load(bias + c));
    }
  }
}

// pairs [panels, 16, PAIR_ROWS, panel] of tiles first..last, two by two; sums (if any) of their pixels
template <int SIZE>
void transform_pairs(const Image& x, const Shape& s, int first, int last, uint32_t* pairs, float* sums) {
  constexpr int BORDER = SIZE / 2 - 1;
  int width = panel(x.channels);
  for (int i = first; i < last; i += 2, pairs += width) {
    int next = i + 1;  // past an utterance's last tile all gradients are zero
    Patch<SIZE> even(x, i / s.columns() * 2 - BORDER, i % s.columns() * 2 - BORDER);
    Patch<SIZE> odd(x, next / s.columns() * 2 - BORDER, next % s.columns() * 2 - BORDER);
    for (int c = 0; c < x.channels; c += LANES) {
      Floats one[16], other[16];
      transform(even, c, one);
      transform(odd, c, other);
      uint32_t* to = pairs + c / width * 16 * PAIR_ROWS * width + c % width;
      for (int p = 0; p < 16; p++) store_pairs(to + p * PAIR_ROWS * width, one[p], other[p]);
      if (sums) add_to(sums + c, one[5] + other[5]);  // each of the tile's pixels once
    }
  }
}

// m [16, inputs, outputs] += the products of tiles first..last
template <int PANEL>
void multiply_pairs(const uint32_t* inputs, const uint32_t* slopes, const Shape& s, int depth, float* m) {
  int rows = panel(s.inputs);
  for (int p = 0; p < 16; p++, inputs += PAIR_ROWS * rows, slopes += PAIR_ROWS * PANEL)
    for (int r = 0; r < s.inputs; r += rows, m += rows * s.outputs)
      for (int c = 0; c < s.outputs; c += PANEL) {
        Pairs a{inputs + r * 16 * PAIR_ROWS, 1, rows};
        product<PANEL, true>(a, rows, slopes + c * 16 * PAIR_ROWS, depth, m + c, s.outputs);
      }
}

// g [9, size] from u [16, size]
void untransform_filters(const float* u, int64_t size, float* g) {
  for (int64_t k = 0; k < size; k += LANES) {
    Floats one[16], taps[9];
    for (int p = 0; p < 16; p++) one[p] = load(u + p * size + k);
    untransform_filter(one, taps);
    for (int p = 0; p < 9; p++) store(g + p * size + k, taps[p]);
  }
}

// Memory in whole cache lines, zero at first.
template <class T>
struct Scratch {
  std::vector<T> memory;
  T* data;

  explicit Scratch(int64_t size) : memory(size + 64 / sizeof(T)) {
    data = (T*)(((uintptr_t)memory.data() + 63) & ~uintptr_t(63));
  }
};

template <int PANEL>
void convolve(const Image& x, const uint16_t* filters, const float* bias, uint16_t* y, const Shape& s, uint16_t* inputs,
              float* products) {
  int64_t rest = int64_t(x.length) * s.mels * s.outputs;
  std::memset(y + rest, 0, (s.pixels() * s.outputs - rest) * sizeof *y);
  int tiles = s.tiles(x.length);
  for (int i = 0; i < tiles; i += TILES) {
    int end = i + TILES < tiles ? i + TILES : tiles;
    transform_inputs(x, s, i, end, inputs);
    for (int c = 0; c < s.outputs; c += PANEL) {
      multiply_tiles<PANEL>(inputs, filters + c * s.inputs, s, end - i, products);
      untransform_outputs<PANEL>(products, bias + c, s, x.length, i, end, y + c);
    }
  }
}

template <int PANEL>
void add_filter_gradient(const Image& x, const Image& grad, const Shape& s, uint32_t* inputs, uint32_t* slopes,
                         float* products, float* bias_sums) {
  int tiles = s.tiles(x.length);
  for (int i = 0; i < tiles; i += 2 * PAIRS) {
    int end = i + 2 * PAIRS < tiles ? i + 2 * PAIRS : tiles;
    transform_pairs<4>(x, s, i, end, inputs, nullptr);
    transform_pairs<2>(grad, s, i, end, slopes, bias_sums);
    multiply_pairs<PANEL>(inputs, slopes, s, (end - i + 1) / 2, products);
  }
}

}  // namespace

extern "C" {

// y = x * filters + bias; filters as pairs of inputs [16, panels, inputs / 2, panel, 2]: G g G' of each.
void winograd_convolve(const uint16_t* x, const int32_t* lengths, const uint16_t* filters, const float* bias,
                       uint16_t* y, Shape s, int first, int last) {
  Scratch<uint16_t> inputs(16 * TILE_ROWS * s.inputs);
  Scratch<float> products(16 * TILE_ROWS * panel(s.outputs));
  auto* convolve_one = panel(s.outputs) == 64 ? convolve<64> : convolve<32>;
  for (int n = first; n < last; n++) {
    Image image{x + n * s.pixels() * s.inputs, lengths[n], s.mels, s.inputs};
    convolve_one(image, filters, bias, y + n * s.pixels() * s.outputs, s, inputs.data, products.data);
  }
}

// sums [utterance, 9, inputs, outputs] and bias_sums [utterance, outputs]: the gradients of filters and bias.
void winograd_filter_gradient(const uint16_t* x, const int32_t* lengths, const uint16_t* grad, float* sums,
                              float* bias_sums, Shape s, int first, int last) {
  Scratch<uint32_t> inputs(16 * PAIR_ROWS * s.inputs), slopes(16 * PAIR_ROWS * s.outputs);
  int64_t matrix = int64_t(s.inputs) * s.outputs;
  Scratch<float> products(16 * matrix);
  auto* add_one = panel(s.outputs) == 64 ? add_filter_gradient<64> : add_filter_gradient<32>;
  for (int n = first; n < last; n++) {
    Image image{x + n * s.pixels() * s.inputs, lengths[n], s.mels, s.inputs};
    Image slope{grad + n * s.pixels() * s.outputs, lengths[n], s.mels, s.outputs};
    std::memset(products.data, 0, 16 * matrix * sizeof(float));
    add_one(image, slope, s, inputs.data, slopes.data, products.data, bias_sums + int64_t(n) * s.outputs);
    untransform_filters(products.data, matrix, sums + n * 9 * matrix);
  }
}

}  // extern "C"

TEAM(winograd_convolve)
TEAM(winograd_filter_gradient)
