// Products of packed weights with rows of activations, for the instruction set of the including unit.
//
// A tile is UNITS blocks of 16 outputs by ROWS rows of activations, held in registers over all columns. How outputs and
// rows are cut into tiles never changes the order in which one output's terms are added: a row's result is the same
// alone and in a batch, on one thread and on several.
#pragma once
#include "tiles.h"

namespace ph {
namespace {

// One or two rows wait for memory, not for arithmetic: they read one block after another, a single stream, of which
// PREFETCH bytes ahead are asked for, since the hardware's prefetcher stops at every page. Several streams at once, or
// one page ahead, take a third longer. With more rows there is time to ask for all of the next tile.
constexpr int PREFETCH = 12288;
constexpr int STREAMED = 2;    // rows up to which it is so
constexpr size_t LONG = 2048;  // bytes from which a dense block is worth a walk of its own; an adapter's are shorter

// -- dense ----------------------------------------------------------------------------------------------------------

// Not inlined: it would share the registers with whatever is around.
template <int KIND, int ROWS, int UNITS>
__attribute__((noinline)) void dense_tile(const Weights& a, int block, const float* x, size_t x_stride, int row,
                                          const Target& to) {
  constexpr size_t LINE = BLOCK * number_bytes(KIND);
  constexpr int STEP = LINE < 32 ? 4 : 2;  // columns a turn
  // Two sums each, of even and odd columns: one would wait for its own last addition.
  Floats sums[2][UNITS][ROWS][PIECES] = {};
  const uint8_t* weights = a.block(block);
  // Of short blocks the next tile's are what comes next.
  const size_t ahead = UNITS == 1 && KIND != PH_BYTE ? PREFETCH : UNITS * a.block_bytes;
  x += size_t(row) * x_stride;
  auto column = [&](int k, int turn) __attribute__((always_inline)) {
#pragma GCC unroll 8
    for (int u = 0; u < UNITS; u++)
#pragma GCC unroll 4
      for (int h = 0; h < PIECES; h++) {
        const uint8_t* at = weights + u * a.block_bytes + size_t(k) * LINE + h * WIDTH * number_bytes(KIND);
        if (h == 0 && turn * LINE % 64 == 0) __builtin_prefetch(at + ahead);
        const Floats w = load_weights<KIND>(at);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) sums[turn % 2][u][r][h] += w * splat(x[size_t(r) * x_stride + k]);
      }
  };
  int k = 0;
  for (; k + STEP <= a.columns; k += STEP) {
    column(k, 0), column(k + 1, 1);
    if constexpr (STEP == 4) column(k + 2, 2), column(k + 3, 3);
  }
  for (; k + 2 <= a.columns; k += 2) column(k, 0), column(k + 1, 1);
  if (k < a.columns) column(k, 0);
#pragma GCC unroll 8
  for (int u = 0; u < UNITS; u++)
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
      for (int h = 0; h < PIECES; h++) {
        Floats sum = sums[0][u][r][h] + sums[1][u][r][h];
        if constexpr (KIND == PH_BYTE) sum *= load<Floats>(a.row_scales + size_t(block + u) * BLOCK + h * WIDTH);
        finish(a, to, block + u, row + r, h, sum);
      }
}

// -- quantized ------------------------------------------------------------------------------------------------------

// Sums that one dot is kept in: with few dots, one sum each would wait for its own last addition, which does not matter
// where memory is waited for. Of integers the order of additions does not matter.
constexpr int chains(int dots, bool streamed) { return streamed ? 1 : dots <= 2 ? 4 : dots <= 4 ? 2 : 1; }

// What one group of columns adds up to: [UNITS][ROWS * PARTS][PIECES], in CHAINS sums each.
template <int BITS, int PARTS, int ROWS, int UNITS>
struct Dots {
  static constexpr int LINES = ROWS * PARTS;
  static constexpr bool ALONE = ROWS == 1 && UNITS == 1;
  static constexpr int CHAINS = chains(UNITS * LINES * PIECES, ROWS <= STREAMED && UNITS == 1 && PIECES == 1);
  Ints sums[CHAINS][UNITS][LINES][PIECES] = {};

  // The sums of the codes undo the weights' offset.
  PH_INLINE void begin(const int32_t* code_sums, int groups) {
    for (int u = 0; u < UNITS; u++)
      for (int r = 0; r < LINES; r++)
        for (int h = 0; h < PIECES; h++) sums[0][u][r][h] = splat(code_sums[r * groups]) * -met_with<BITS>();
  }

  PH_INLINE void add_chunk(const uint8_t* weights, size_t block_bytes, size_t ahead, const int8_t* codes, int padded) {
    Sixteen sixteen[LINES];
#pragma GCC unroll 8
    for (int j = 0; j < CHUNK / 4; j++) {
      if (ALONE && j % 4 == 0)
        for (int r = 0; r < LINES; r++) sixteen[r] = Sixteen::from(codes + size_t(r) * padded + j * 4);
#pragma GCC unroll 4
      for (int u = 0; u < UNITS; u++)
#pragma GCC unroll 4
        for (int h = 0; h < PIECES; h++) {
          const uint8_t* chunk = weights + u * block_bytes;
          if (h == 0 && j * BITS % 8 == 0) __builtin_prefetch(chunk + j * BITS * 8 + ahead);
          const Words cell = load_cell<BITS>(chunk, j, h);
#pragma GCC unroll 16
          for (int r = 0; r < LINES; r++) {
            const Four x = ALONE ? sixteen[r].at(j % 4) : four(codes + size_t(r) * padded + j * 4);
            sums[j % CHAINS][u][r][h] = dot_cell<BITS>(sums[j % CHAINS][u][r][h], cell, x);
          }
        }
    }
  }

  PH_INLINE void end() {
    for (int chain = 1; chain < CHAINS; chain++)
      for (int u = 0; u < UNITS; u++)
        for (int r = 0; r < LINES; r++)
          for (int h = 0; h < PIECES; h++) sums[0][u][r][h] += sums[chain][u][r][h];
  }

  PH_INLINE Floats of(int u, int row, int h) const {
    const Floats first = to_floats(sums[0][u][row * PARTS][h]);
    return PARTS == 1 ? first : first + to_floats(sums[0][u][row * PARTS + PARTS - 1][h]) * (1.0f / 254);
  }
};

template <int BITS, int PARTS, int ROWS, int UNITS>
void quantized_tile(const Weights& a, int block, const QuantRows& x, int row, const Target& to) {
  Floats sums[UNITS][ROWS][PIECES] = {};
  const uint8_t* weights = a.block(block);
  const size_t ahead = ROWS <= STREAMED ? PREFETCH : UNITS * a.block_bytes;
  for (int u = 0; u < UNITS; u++)
    for (size_t at = 0; at < a.scale_bytes; at += 64)
      __builtin_prefetch(a.data + size_t(block + u) * a.block_bytes + at + ahead);
  const int8_t* codes = x.codes + size_t(row) * PARTS * x.padded;
  const int32_t* code_sums = x.sums + size_t(row) * PARTS * x.groups;
  const float* x_scales = x.scales + size_t(row) * x.groups;
  for (int g = 0; g < a.groups; g++) {
    Dots<BITS, PARTS, ROWS, UNITS> dots;
    dots.begin(code_sums + g, x.groups);
    for (int c = 0; c < a.group; c += CHUNK, weights += chunk_bytes(BITS), codes += CHUNK)
      dots.add_chunk(weights, a.block_bytes, ahead, codes, x.padded);
    dots.end();
    for (int u = 0; u < UNITS; u++)
      for (int h = 0; h < PIECES; h++) {
        const uint16_t* at = a.block_scales(block + u) + g * BLOCK + h * WIDTH;
        const Floats scale = load_weights<PH_F16>(reinterpret_cast<const uint8_t*>(at));
        for (int r = 0; r < ROWS; r++) sums[u][r][h] += dots.of(u, r, h) * (scale * splat(x_scales[r * x.groups + g]));
      }
  }
  for (int u = 0; u < UNITS; u++)
    for (int r = 0; r < ROWS; r++)
      for (int h = 0; h < PIECES; h++) finish(a, to, block + u, row + r, h, sums[u][r][h] * splat(a.unit));
}

// -- cutting into tiles ---------------------------------------------------------------------------------------------

// How many blocks a tile of ROWS rows takes: as many as fit the registers (32 of AVX-512, 16 of the others), but where
// memory is waited for, one, as long as that keeps the arithmetic busy.
constexpr int dense_units(int rows) { return PIECES > 1 || rows >= 8 ? 1 : 8 / rows; }
constexpr int quantized_units(int bits, int rows, int parts, bool far) {
  if (PIECES > 1 || rows * parts > 8) return 1;
  const int arithmetic = bits == 8 || far ? 1 : rows * parts;  // 4 bits from a cache come faster than it is done
  return bits >= 4 && rows <= STREAMED && arithmetic == 1 ? 1 : 2;
}

template <int KIND, int PARTS, int ROWS, int UNITS>
PH_INLINE void one_tile(const Weights& a, int block, const float* x, size_t x_stride, const QuantRows* quant, int row,
                        const Target& to) {
  if constexpr (is_dense(KIND))
    dense_tile<KIND, ROWS, UNITS>(a, block, x, x_stride, row, to);
  else
    quantized_tile<KIND, PARTS, ROWS, UNITS>(a, block, *quant, row, to);
}

template <int KIND, int PARTS, int ROWS, int UNITS>
void units_at(const Weights& a, int begin, int end, const float* x, size_t x_stride, const QuantRows* quant, int row,
              const Target& to) {
  int block = begin;
  for (; block + UNITS <= end; block += UNITS) one_tile<KIND, PARTS, ROWS, UNITS>(a, block, x, x_stride, quant, row, to);
  if constexpr (UNITS > 1) units_at<KIND, PARTS, ROWS, UNITS / 2>(a, block, end, x, x_stride, quant, row, to);
}

// A byte a column is too little for one block at a time: its two sums would wait for their last additions.
template <int KIND, int PARTS, int ROWS>
void rows_at(const Weights& a, int begin, int end, const float* x, size_t x_stride, const QuantRows* quant, int row,
             const Target& to) {
  if constexpr (!is_dense(KIND)) {
    constexpr int FAR = quantized_units(KIND, ROWS, PARTS, true), HERE = quantized_units(KIND, ROWS, PARTS, false);
    a.far ? units_at<KIND, PARTS, ROWS, FAR>(a, begin, end, x, x_stride, quant, row, to)
          : units_at<KIND, PARTS, ROWS, HERE>(a, begin, end, x, x_stride, quant, row, to);
  } else if (ROWS <= STREAMED && KIND != PH_BYTE && a.block_bytes >= LONG) {
    units_at<KIND, PARTS, ROWS, 1>(a, begin, end, x, x_stride, quant, row, to);
  } else {
    units_at<KIND, PARTS, ROWS, dense_units(ROWS)>(a, begin, end, x, x_stride, quant, row, to);
  }
}

template <int KIND, int PARTS>
void all_rows(const Weights& a, int begin, int end, const float* x, size_t x_stride, const QuantRows* quant, int rows,
              const Target& to) {
  constexpr int MOST = PIECES > 1 ? 4 : 8;
  // With many rows, weights stay in the cache while all rows pass; with few, long walks suit the prefetcher.
  const int step = rows > MOST ? 8 : end - begin;
  for (int first = begin; first < end; first += step) {
    const int last = first + step < end ? first + step : end;
    int row = 0;
    for (; row + MOST <= rows; row += MOST) rows_at<KIND, PARTS, MOST>(a, first, last, x, x_stride, quant, row, to);
    if (MOST > 4 && row + 4 <= rows) rows_at<KIND, PARTS, 4>(a, first, last, x, x_stride, quant, row, to), row += 4;
    if (row + 2 <= rows) rows_at<KIND, PARTS, 2>(a, first, last, x, x_stride, quant, row, to), row += 2;
    if (row < rows) rows_at<KIND, PARTS, 1>(a, first, last, x, x_stride, quant, row, to);
  }
}

template <int BITS>
void quantized(const Weights& a, int begin, int end, const QuantRows* quant, int rows, const Target& to) {
  const bool tiles = rows * quant->parts >= TILED_LINES;
  if (quant->parts == 2)
    tiles ? tiled<BITS, 2>(a, begin, end, *quant, rows, to) : all_rows<BITS, 2>(a, begin, end, nullptr, 0, quant, rows, to);
  else
    tiles ? tiled<BITS, 1>(a, begin, end, *quant, rows, to) : all_rows<BITS, 1>(a, begin, end, nullptr, 0, quant, rows, to);
}

void multiply(const Weights& a, int begin, int end, const float* x, size_t x_stride, const QuantRows* quant, int rows,
              float* y, size_t y_stride, bool add) {
  if (rows <= 0 || begin >= end) return;
  const Target to{y, y_stride, add};
  switch (a.kind) {
    case PH_F32: return all_rows<PH_F32, 1>(a, begin, end, x, x_stride, nullptr, rows, to);
    case PH_BF16: return all_rows<PH_BF16, 1>(a, begin, end, x, x_stride, nullptr, rows, to);
    case PH_F16: return all_rows<PH_F16, 1>(a, begin, end, x, x_stride, nullptr, rows, to);
    case PH_BYTE: return all_rows<PH_BYTE, 1>(a, begin, end, x, x_stride, nullptr, rows, to);
    case PH_INT8: return quantized<8>(a, begin, end, quant, rows, to);
    case PH_INT4: return quantized<4>(a, begin, end, quant, rows, to);
    case PH_INT3: return quantized<3>(a, begin, end, quant, rows, to);
    default: return quantized<2>(a, begin, end, quant, rows, to);
  }
}

}  // namespace
}  // namespace ph
