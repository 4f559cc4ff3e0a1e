// Everything that is no product with weights, for the instruction set of the including unit.
#pragma once
#include "kernels.h"
#include "simd.h"

namespace ph {
namespace {

PH_INLINE float square_root(float x) { return __builtin_sqrtf(x); }

float dot(const float* a, const float* b, int count) {
  Floats sum = {};
  int i = 0;
  for (; i + WIDTH <= count; i += WIDTH) sum += load<Floats>(a + i) * load<Floats>(b + i);
  float rest = 0;
  for (; i < count; i++) rest += a[i] * b[i];
  return total(sum) + rest;
}

void add_scaled(float* x, const float* direction, float amount, int count) {
  int i = 0;
  for (; i + WIDTH <= count; i += WIDTH) store(x + i, load<Floats>(x + i) + load<Floats>(direction + i) * splat(amount));
  for (; i < count; i++) x[i] += direction[i] * amount;
}

void normalize(const float* x, const float* weight, float* y, int count, float epsilon) {
  const float scale = 1.0f / square_root(dot(x, x, count) / float(count) + epsilon);
  int i = 0;
  for (; i + WIDTH <= count; i += WIDTH) store(y + i, load<Floats>(x + i) * splat(scale) * load<Floats>(weight + i));
  for (; i < count; i++) y[i] = x[i] * scale * weight[i];
}

// Both are padded to a multiple of 16 with zeros, which stay zeros.
void gate(float* gate, const float* up, int count) {
  for (int i = 0; i < count; i += WIDTH) {
    const Floats g = load<Floats>(gate + i);
    store(gate + i, g / (exponential(-g) + 1.0f) * load<Floats>(up + i));
  }
}

// One group of a row: codes of part one, of what part one leaves over, and their sums.
PH_INLINE void quantize_group(const float* x, int group, int parts, int8_t* first, int8_t* second, float* scale,
                              int32_t* first_sum, int32_t* second_sum) {
  Floats top = {};
  for (int i = 0; i < group; i += WIDTH) top = larger(magnitude(load<Floats>(x + i)), top);
  const float most = largest(top);
  const bool usable = most > 1e-30f && most < 1e38f;
  const float unit = usable ? most / 127 : 0, inverse = usable ? 127 / most : 0;
  Ints sum = {}, rest_sum = {};
  for (int i = 0; i < group; i += WIDTH) {
    const Floats v = load<Floats>(x + i), q = nearest(v * splat(inverse));
    const Ints code = to_ints(q);
    sum += code;
    store(first + i, __builtin_convertvector(code, Bytes));
    if (parts == 2) {
      const Ints rest = to_ints((v - q * splat(unit)) * splat(inverse * 254));
      rest_sum += rest;
      store(second + i, __builtin_convertvector(rest, Bytes));
    }
  }
  *scale = unit;
  *first_sum = total(sum);
  if (parts == 2) *second_sum = total(rest_sum);
}

void quantize(const float* x, const QuantRows& to, int row, int group) {
  int8_t* codes = to.codes + size_t(row) * to.parts * to.padded;
  int32_t* sums = to.sums + size_t(row) * to.parts * to.groups;
  float* scales = to.scales + size_t(row) * to.groups;
  const int last = to.parts - 1;  // with one part, `second` points at the first and is left alone
  for (int g = 0; g < to.groups; g++)
    quantize_group(x + size_t(g) * group, group, to.parts, codes + size_t(g) * group,
                   codes + size_t(last) * to.padded + size_t(g) * group, scales + g, sums + g,
                   sums + last * to.groups + g);
}

// -- attention ------------------------------------------------------------------------------------------------------

// Scores of HEADS heads with the 32 keys of one block; keys lie dimension by dimension, so no sum crosses a vector.
// `next` is what is read after them, and as long: a block's keys lie far from the next one's.
template <int HEADS>
void score(const Attention& a, const float* queries, const float* keys, const float* next, float* scores,
           size_t stride) {
  constexpr int VECTORS = POSITIONS / WIDTH, AT_ONCE = VECTORS > 2 ? 2 : VECTORS;
  for (int v = 0; v < VECTORS; v += AT_ONCE) {
    Floats sums[HEADS][AT_ONCE] = {};
    for (int d = 0; d < a.size; d++)
      for (int i = 0; i < AT_ONCE; i++) {
        __builtin_prefetch(next + size_t(d) * POSITIONS + (v + i) * WIDTH);
        const Floats key = load<Floats>(keys + size_t(d) * POSITIONS + (v + i) * WIDTH);
        for (int h = 0; h < HEADS; h++) sums[h][i] += key * splat(queries[size_t(h) * a.size + d]);
      }
    for (int h = 0; h < HEADS; h++)
      for (int i = 0; i < AT_ONCE; i++) store(scores + h * stride + (v + i) * WIDTH, sums[h][i]);
  }
}

void softmax(float* scores, int count) {
  const int padded = (count + POSITIONS - 1) / POSITIONS * POSITIONS;
  for (int i = count; i < padded; i++) scores[i] = -3e38f;
  Floats top = splat(-3e38f), sum = {};
  for (int i = 0; i < padded; i += WIDTH) top = larger(load<Floats>(scores + i), top);
  const Floats most = splat(largest(top));
  for (int i = 0; i < padded; i += WIDTH) {
    Floats e = exponential(load<Floats>(scores + i) - most);
    if (i + WIDTH > count)
      for (int lane = 0; lane < WIDTH; lane++) e[lane] = i + lane < count ? e[lane] : 0;
    store(scores + i, e);
    sum += e;
  }
  const Floats scale = splat(1 / total(sum));
  for (int i = 0; i < padded; i += WIDTH) store(scores + i, load<Floats>(scores + i) * scale);
}

// Sums of values weighted by the scores, VECTORS vectors of the head at once.
template <int HEADS, int VECTORS>
void mix(const Attention& a, int head, int at, size_t stride) {
  Floats sums[HEADS][VECTORS] = {};
  for (int p = 0; p < a.positions; p++) {
    const size_t place = size_t(a.size) * POSITIONS + size_t(p % POSITIONS) * a.size + at;
    const float* values = a.blocks[p / POSITIONS] + place;
    const float* next = p + POSITIONS < a.positions ? a.blocks[p / POSITIONS + 1] + place : values;
    for (int v = 0; v < VECTORS; v++) {
      __builtin_prefetch(next + v * WIDTH);
      const Floats value = load<Floats>(values + v * WIDTH);
      for (int h = 0; h < HEADS; h++) sums[h][v] += value * splat(a.scores[size_t(head + h) * stride + p]);
    }
  }
  for (int h = 0; h < HEADS; h++) {
    float whole[VECTORS * WIDTH];  // a head's width may end within a vector, where its neighbour begins
    for (int v = 0; v < VECTORS; v++) store(whole + v * WIDTH, sums[h][v]);
    const int count = a.out_size - at < VECTORS * WIDTH ? a.out_size - at : VECTORS * WIDTH;
    if (count > 0) __builtin_memcpy(a.out + size_t(head + h) * a.out_size + at, whole, sizeof(float) * size_t(count));
  }
}

template <int HEADS>
void attend_heads(const Attention& a, int head, size_t stride) {
  const int blocks = (a.positions + POSITIONS - 1) / POSITIONS;
  for (int b = 0; b < blocks; b++) {
    const float* next = b + 1 < blocks ? a.blocks[b + 1] : a.blocks[0] + size_t(a.size) * POSITIONS;
    score<HEADS>(a, a.queries + size_t(head) * a.size, a.blocks[b], next,
                 a.scores + head * stride + size_t(b) * POSITIONS, stride);
  }
  for (int h = 0; h < HEADS; h++) softmax(a.scores + (head + h) * stride, a.positions);
  int at = 0;
  for (; at + 4 * WIDTH <= a.size; at += 4 * WIDTH) mix<HEADS, 4>(a, head, at, stride);
  for (; at + 2 * WIDTH <= a.size; at += 2 * WIDTH) mix<HEADS, 2>(a, head, at, stride);
  for (; at < a.size; at += WIDTH) mix<HEADS, 1>(a, head, at, stride);
}

// Heads are cut into equal parts, as large as the registers hold: all heads of a part share each load of a key or value,
// and the sums of one head alone would wait for their own last additions.
void attend(const Attention& a) {
  constexpr int MOST = PIECES > 1 ? 3 : 5;
  const size_t stride = size_t(a.positions + POSITIONS - 1) / POSITIONS * POSITIONS;
  int head = 0;
  for (int parts = (a.heads + MOST - 1) / MOST; parts > 0; parts--) {
    const int count = (a.heads - head + parts - 1) / parts;
    switch (count) {
      case 5: attend_heads<MOST>(a, head, stride); break;
      case 4: attend_heads<MOST < 4 ? MOST : 4>(a, head, stride); break;
      case 3: attend_heads<3>(a, head, stride); break;
      case 2: attend_heads<2>(a, head, stride); break;
      default: attend_heads<1>(a, head, stride);
    }
    head += count;
  }
}

// The first place of the largest number: every lane keeps its own first, then the lanes are compared. A NaN is never
// larger; what has one is refused before.
PH_INLINE Peak highest(const float* x, int count) {
  Peak found{x[0], 0, 0};
  int i = 0;
  if (count >= WIDTH) {
    Floats top = load<Floats>(x);
    Ints where = {}, turn = {};
    for (i = WIDTH; i + WIDTH <= count; i += WIDTH) {
      const Floats next = load<Floats>(x + i);
      turn += 1;
      where = next > top ? turn : where;
      top = next > top ? next : top;
    }
    float each[WIDTH];
    int32_t turns[WIDTH];
    store(each, top);
    store(turns, where);
    for (int lane = 0; lane < WIDTH; lane++) {
      const int at = turns[lane] * WIDTH + lane;
      if (each[lane] > found.largest || (each[lane] == found.largest && at < found.index)) found = {each[lane], 0, at};
    }
  }
  for (; i < count; i++)
    if (x[i] > found.largest) found.largest = x[i], found.index = i;
  return found;
}

Peak peak(const float* x, int count) {
  Peak found = highest(x, count);
  Floats sum = {};
  int i = 0;
  for (; i + WIDTH <= count; i += WIDTH) sum += exponential(load<Floats>(x + i) - splat(found.largest));
  found.sum = total(sum);
  for (; i < count; i++) found.sum += exponential(splat(x[i] - found.largest))[0];
  return found;
}

uint32_t read(const uint8_t* from, size_t bytes) {
  Words sums[4] = {};
  for (size_t i = 0; i < bytes; i += sizeof sums) {
    __builtin_prefetch(from + i + 1024);
    for (size_t v = 0; v < 4; v++) sums[v] ^= load<Words>(from + i + v * sizeof(Words));
  }
  const Words all = sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
  return uint32_t(total((Ints)all));
}

}  // namespace
}  // namespace ph
