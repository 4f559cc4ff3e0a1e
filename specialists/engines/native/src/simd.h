// Vectors of the width that this translation unit is compiled for: 16 floats (AVX-512), 8 (AVX2) or 4 (SSE2, NEON).
//
// Arithmetic is written with the vector types that GCC and Clang share, which become the unit's own instructions. Only
// what they cannot say is spelled out per instruction set: conversions from f16, and the products of bytes.
//
// Everything is in an unnamed namespace: a function that two units define with different instructions must not be
// merged by the linker. For the same reason no standard header with inline functions is included here.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "kernels.h"
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define PH_INLINE inline __attribute__((always_inline))

namespace ph {
namespace {

#if defined(__AVX512F__)
constexpr int WIDTH = 16;
#elif defined(__AVX2__)
constexpr int WIDTH = 8;
#else
constexpr int WIDTH = 4;
#endif
constexpr int PIECES = BLOCK / WIDTH;  // vectors that a block of 16 rows takes

typedef float Floats __attribute__((vector_size(4 * WIDTH)));
typedef int32_t Ints __attribute__((vector_size(4 * WIDTH)));
typedef uint32_t Words __attribute__((vector_size(4 * WIDTH)));
typedef uint16_t Halves __attribute__((vector_size(2 * WIDTH)));
typedef int8_t Bytes __attribute__((vector_size(WIDTH)));

template <class V>
PH_INLINE V load(const void* from) {
  V v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
template <class V>
PH_INLINE void store(void* to, V v) {
  __builtin_memcpy(to, &v, sizeof v);
}
PH_INLINE Floats splat(float x) {
#if defined(__AVX512F__)
  return (Floats)_mm512_set1_ps(x);
#elif defined(__AVX2__)
  return (Floats)_mm256_set1_ps(x);
#else
  return Floats{x, x, x, x};
#endif
}
PH_INLINE Ints splat(int32_t x) {
#if defined(__AVX512F__)
  return (Ints)_mm512_set1_epi32(x);
#elif defined(__AVX2__)
  return (Ints)_mm256_set1_epi32(x);
#else
  return Ints{x, x, x, x};
#endif
}
PH_INLINE Floats larger(Floats a, Floats b) { return a > b ? a : b; }
PH_INLINE Floats magnitude(Floats a) { return (Floats)((Words)a & 0x7fffffffu); }
PH_INLINE Floats to_floats(Ints a) { return __builtin_convertvector(a, Floats); }

// To the nearest integer, ties to even, for |x| < 2^22; anything may come of other numbers, but no trap.
PH_INLINE Floats nearest(Floats x) { return (x + splat(12582912.0f)) - splat(12582912.0f); }
PH_INLINE Ints to_ints(Floats x) {
  // The low bits of x + 1.5 * 2^23 are the integer; unlike a conversion this is defined for every x.
  return (Ints)(x + splat(12582912.0f)) - splat(int32_t(0x4b400000));
}

// Horizontal results are made in a fixed order, so that they are the same wherever a number is computed: the upper half
// meets the lower one, until one number is left. So do the instructions' own reductions.
PH_INLINE float total(Floats v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)v);
#else
  float each[WIDTH];
  store(each, v);
  for (int step = WIDTH / 2; step > 0; step /= 2)
    for (int i = 0; i < step; i++) each[i] += each[i + step];
  return each[0];
#endif
}
PH_INLINE float largest(Floats v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)v);
#else
  float each[WIDTH];
  store(each, v);
  for (int step = WIDTH / 2; step > 0; step /= 2)
    for (int i = 0; i < step; i++) each[i] = each[i] > each[i + step] ? each[i] : each[i + step];
  return each[0];
#endif
}
PH_INLINE int32_t total(Ints v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_epi32((__m512i)v);
#else
  int32_t each[WIDTH], sum = 0;
  store(each, v);
  for (int i = 0; i < WIDTH; i++) sum += each[i];
  return sum;
#endif
}

// exp to about 1e-7 relative: 2^n by the exponent's bits, 2^fraction by a polynomial of degree 6.
PH_INLINE Floats exponential(Floats x) {
  x = larger(x, splat(-87.0f));
  x = x < splat(88.0f) ? x : splat(88.0f);
  const Floats n = nearest(x * 1.44269504f);
  const Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Floats p = splat(1.3888889e-3f);
  p = p * r + 8.3333333e-3f;
  p = p * r + 4.1666667e-2f;
  p = p * r + 1.6666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * (Floats)((to_ints(n) + 127) << 23);
}

// -- weights --------------------------------------------------------------------------------------------------------

// GCC would widen in two steps what these instructions do in one.
PH_INLINE Words widened(Halves x) {
#if defined(__AVX512F__)
  return (Words)_mm512_cvtepu16_epi32((__m256i)x);
#elif defined(__AVX2__)
  return (Words)_mm256_cvtepu16_epi32((__m128i)x);
#else
  return __builtin_convertvector(x, Words);
#endif
}

template <int KIND>
PH_INLINE Floats load_weights(const uint8_t* from);
template <>
PH_INLINE Floats load_weights<PH_F32>(const uint8_t* from) {
  return load<Floats>(from);
}
template <>
PH_INLINE Floats load_weights<PH_BF16>(const uint8_t* from) {
  return (Floats)(widened(load<Halves>(from)) << 16);
}
template <>
PH_INLINE Floats load_weights<PH_F16>(const uint8_t* from) {
#if defined(__AVX512F__)
  return (Floats)_mm512_cvtph_ps((__m256i)load<Halves>(from));
#elif defined(__F16C__)
  return (Floats)_mm256_cvtph_ps((__m128i)load<Halves>(from));
#elif defined(__aarch64__)
  return (Floats)vcvt_f32_f16(vreinterpret_f16_u16((uint16x4_t)load<Halves>(from)));
#else
  // As in half_to_float, four at once.
  const Words bits = widened(load<Halves>(from)), sign = (bits & 0x8000u) << 16;
  const Words rest = bits & 0x7fffu;
  const Words special = (Words)(rest >= 0x7c00u) & 0x7f800000u;
  const Floats value = (Floats)(rest << 13) * 5.192296858534828e33f;
  return (Floats)(sign | (Words)value | special);
#endif
}

template <>
PH_INLINE Floats load_weights<PH_BYTE>(const uint8_t* from) {
#if defined(__AVX512F__)
  return (Floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32((__m128i)load<Bytes>(from)));
#elif defined(__AVX2__)
  return (Floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
#else
  return __builtin_convertvector(load<Bytes>(from), Floats);
#endif
}

// Piece `h` of cell `j` (0 to 7) of a chunk of 32 columns: for WIDTH rows, four columns a row, one unsigned byte each.
template <int BITS>
PH_INLINE Words load_cell(const uint8_t* chunk, int j, int h) {
  const size_t at = size_t(h) * 4 * WIDTH;
  if (BITS == 8) return load<Words>(chunk + j * 64 + at);
  if (BITS == 4) return (load<Words>(chunk + j / 2 * 64 + at) >> (j % 2 * 4)) & 0x0f0f0f0fu;
  const Words low = (load<Words>(chunk + j / 4 * 64 + at) >> (j % 4 * 2)) & 0x03030303u;
  if (BITS == 2) return low;
  return low | ((load<Words>(chunk + 128 + at) >> j) & 0x01010101u) << 2;
}

// -- products of bytes ----------------------------------------------------------------------------------------------

// What is added to a code before it meets an activation: with some instruction sets 8-bit codes meet them signed.
#if defined(__AVX512VNNI__) || !(defined(__AVX512BW__) || defined(__AVX2__))
template <int BITS>
constexpr int met_with() { return offset(BITS); }
#else
template <int BITS>
constexpr int met_with() { return BITS == 8 ? 0 : offset(BITS); }
#endif

// The activations of four columns, in every lane where there are vectors for it.
#if defined(__AVX512BW__) || defined(__AVX2__)
typedef Words Four;
PH_INLINE Four four(const int8_t* codes) { return (Four)splat(load<int32_t>(codes)); }
#else
typedef int32_t Four;
PH_INLINE Four four(const int8_t* codes) { return load<int32_t>(codes); }
#endif

// Those of the 16 columns from `codes` on, by one load. One row alone waits for memory, and a load of its own for every
// four columns would take the place of one that asks for weights.
#if defined(__AVX512BW__)
struct Sixteen {
  __m512i all;
  static PH_INLINE Sixteen from(const int8_t* codes) {
    Sixteen found{_mm512_broadcast_i32x4(load<__m128i>(codes))};
    asm("" : "+v"(found.all));  // or the compiler would undo this
    return found;
  }
  PH_INLINE Four at(int cell) const {
    switch (cell) {
      case 0: return (Four)_mm512_shuffle_epi32(all, _MM_PERM_AAAA);
      case 1: return (Four)_mm512_shuffle_epi32(all, _MM_PERM_BBBB);
      case 2: return (Four)_mm512_shuffle_epi32(all, _MM_PERM_CCCC);
      default: return (Four)_mm512_shuffle_epi32(all, _MM_PERM_DDDD);
    }
  }
};
#else
struct Sixteen {
  const int8_t* codes;
  static PH_INLINE Sixteen from(const int8_t* codes) { return {codes}; }
  PH_INLINE Four at(int cell) const { return four(codes + cell * 4); }
};
#endif

// sum[i] += the four products of row i's codes and the four activations in `x` (the same four for all rows).
template <int BITS>
PH_INLINE Ints dot_cell(Ints sum, Words codes, Four x) {
#if defined(__AVX512VNNI__)
  return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)codes, (__m512i)x);
#elif defined(__AVX512BW__)
  __m512i w = (__m512i)codes, a = (__m512i)x;
  if (BITS == 8) {  // two products of an unsigned byte may exceed 16 bits: move the sign over to the activation
    w = _mm512_xor_si512(w, _mm512_set1_epi8(int8_t(-128)));
    a = _mm512_mask_sub_epi8(a, _mm512_movepi8_mask(w), _mm512_setzero_si512(), a);
    w = _mm512_abs_epi8(w);
  }
  return sum + (Ints)_mm512_madd_epi16(_mm512_maddubs_epi16(w, a), _mm512_set1_epi16(1));
#elif defined(__AVX2__)
  __m256i w = (__m256i)codes, a = (__m256i)x;
  if (BITS == 8) {
    w = _mm256_xor_si256(w, _mm256_set1_epi8(int8_t(-128)));
    a = _mm256_sign_epi8(a, w);
    w = _mm256_abs_epi8(w);
  }
  return sum + (Ints)_mm256_madd_epi16(_mm256_maddubs_epi16(w, a), _mm256_set1_epi16(1));
#elif defined(__aarch64__)
  const uint8x16_t w = (uint8x16_t)codes;
  const int16x8_t a = vmovl_s8(vcreate_s8(uint64_t(uint32_t(x)) << 32 | uint32_t(x)));
  const int16x8_t low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(w)));
  const int16x8_t high = vreinterpretq_s16_u16(vmovl_high_u8(w));
  const int32x4_t first = vpaddq_s32(vmull_s16(vget_low_s16(low), vget_low_s16(a)), vmull_high_s16(low, a));
  const int32x4_t second = vpaddq_s32(vmull_s16(vget_low_s16(high), vget_low_s16(a)), vmull_high_s16(high, a));
  return sum + (Ints)vpaddq_s32(first, second);
#else
  for (int byte = 0; byte < 4; byte++) sum += (Ints)((codes >> (8 * byte)) & 0xffu) * int32_t(int8_t(x >> (8 * byte)));
  return sum;
#endif
}

}  // namespace
}  // namespace ph
