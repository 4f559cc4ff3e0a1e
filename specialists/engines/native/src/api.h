// The C interface of the native engine: what Python calls through ctypes. Nothing else is exported.
//
// Every function that can fail returns PH_OK or a code below and leaves a sentence for ph_error() (per thread).
// Handles of sequences, adapters and plans are small numbers that belong to one model. A model is not safe for
// two threads at once except as said: ph_step and everything that changes a model take its lock.
#pragma once
#include <stdint.h>

#if defined(__GNUC__)
#define PH_EXPORT extern "C" __attribute__((visibility("default")))
#else
#define PH_EXPORT extern "C"
#endif

enum { PH_OK = 0, PH_BAD_ARGUMENT = 1, PH_OUT_OF_CONTEXT = 2, PH_OUT_OF_CACHE = 3, PH_NOT_FINITE = 4, PH_FAILED = 5 };

// How numbers are stored; the quantized kinds are their own number of bits.
// PH_BYTE is a byte a number and one scale a row, multiplied in float: for adapters, which few rows read.
enum { PH_F32 = 0, PH_BF16 = 1, PH_F16 = 16, PH_BYTE = 9, PH_INT8 = 8, PH_INT4 = 4, PH_INT3 = 3, PH_INT2 = 2 };

// The maps and vectors of a layer; those of the whole model are asked for with layer -1.
enum { PH_Q = 0, PH_K, PH_V, PH_O, PH_GATE, PH_UP, PH_DOWN, PH_MAPS, PH_EMBED = PH_MAPS, PH_HEAD };
enum { PH_NORM_INPUT = 0, PH_NORM_POST, PH_NORM_Q, PH_NORM_K, PH_NORM_FINAL };

// Kinds of steering, numbered as in kernels/steer.py.
enum { PH_ADD = 1, PH_PROJECT_OUT = 2, PH_CLAMP_FEATURE = 3, PH_SCALE = 4 };

struct ph_context;
struct ph_model;

struct ph_shape {
  int32_t vocabulary, width, inner, layers, heads, groups, head_size, context;
  int32_t rows;   // most tokens of one step
  int32_t parts;  // int8 parts of an activation against quantized weights: 2 (15 bits) or 1 (8 bits)
  float epsilon;
  int64_t cache_bytes;  // most memory of keys and values
};

struct ph_matrix {
  int32_t kind, rows, columns, group;
  const void* data;     // [rows, columns] row-major: float, bf16 or f16 bits, or int8 codes
  const float* scales;  // [rows, ceil(columns / group)], quantized kinds only
  const float* bias;    // [rows] or null
};

struct ph_entry {      // one steering vector; see kernels/steer.py for the arithmetic
  int32_t kind, layer;
  int32_t in_prompt, in_generation;
  int32_t gate_layer;  // -1: no gate
  int32_t relative, keep_norm;
  float coefficient, reader_bias, reader_threshold, gate_bias, gate_threshold;
  const float *vector, *reader, *gate;  // [width]; reader and gate may be null
};

struct ph_head {  // one linear read-out of the residual stream after a layer, as steering left it
  int32_t layer;
  float bias;
  const float* weight;  // [width]
};

struct ph_run {  // consecutive tokens of one sequence in one step; the pointers are the caller's memory
  const int32_t* tokens;    // [count]
  const int32_t* targets;   // null, or [count]: whose log-probability to report after each token; -1 for none
  float* logprobs;          // null, or [count]: where to report them
  float* logits;            // null, or [vocabulary]: the logits after the last token
  const int32_t* tap_layers;
  float* taps;              // null, or [taps_count, ..., width]: the residual stream, one token after another
  float* readings;          // null, or [count, heads of the plan]
  int64_t taps_stride;      // floats from one tapped layer's first token to the next layer's
  int32_t sequence, count, adapter, plan;  // adapter and plan: -1 for none
  int32_t generation;       // 0: these tokens are prompt, 1: generation (what a vector's scope means)
  int32_t draw;             // 1: report the likeliest next token
  int32_t taps_count, taps_steered;  // 1: taps see what that layer's steering left, 0: what it met
  // what comes back
  int32_t status;           // of this run alone
  int32_t token;            // the likeliest next token, its log-probability, and the log of the sum of exponentials
  float logprob, normaliser;
};

struct ph_more {  // what a run draws in several steps
  int32_t* tokens;  // [most]: the likeliest ones, each read before the next is drawn
  float* logprobs;  // [most]
  int32_t most;     // at least 1
  int32_t drawn;    // comes back: how many there are
};

PH_EXPORT const char* ph_error();
// Space-separated names of the instruction sets that were compiled in and that this processor has, best first.
PH_EXPORT const char* ph_kernels();
// kernels: one of those names, or "auto". Threads above 1 are pinned to processors of the caller's own set.
PH_EXPORT ph_context* ph_context_new(int32_t threads, const char* kernels);
PH_EXPORT const char* ph_context_kernels(const ph_context*);
PH_EXPORT void ph_context_free(ph_context*);
// Read `bytes` of fresh memory `rounds` times with all threads: what no engine can be faster than. Seconds of each
// round go to `seconds`.
PH_EXPORT int ph_read(ph_context*, int64_t bytes, int32_t rounds, double* seconds);

PH_EXPORT ph_model* ph_model_new(ph_context*, const ph_shape*, const float* inverse_frequencies);
PH_EXPORT int ph_model_matrix(ph_model*, int32_t layer, int32_t map, const ph_matrix*);
PH_EXPORT int ph_model_vector(ph_model*, int32_t layer, int32_t which, const float* data, int32_t count);
PH_EXPORT int ph_model_ready(ph_model*);
PH_EXPORT int ph_model_row(const ph_model*, int32_t layer, int32_t map, int32_t row, float* out);
PH_EXPORT int64_t ph_model_bytes(const ph_model*);
PH_EXPORT void ph_model_free(ph_model*);

PH_EXPORT int ph_sequence_new(ph_model*, int32_t* sequence);
PH_EXPORT int ph_sequence_fork(ph_model*, int32_t sequence, int32_t tokens, int32_t* fork);
PH_EXPORT int ph_sequence_free(ph_model*, int32_t sequence);
PH_EXPORT int64_t ph_cache_bytes(ph_model*);

PH_EXPORT int ph_adapter_new(ph_model*, int32_t kind, int32_t* adapter);
// a [rank, inputs], b [outputs, rank], float32, any scale folded in; stored as the adapter's kind.
PH_EXPORT int ph_adapter_product(ph_model*, int32_t adapter, int32_t layer, int32_t map, int32_t rank,
                                 const float* a, int32_t inputs, const float* b, int32_t outputs);
PH_EXPORT int ph_adapter_ready(ph_model*, int32_t adapter);
PH_EXPORT int ph_adapter_free(ph_model*, int32_t adapter);

PH_EXPORT int ph_plan_new(ph_model*, const ph_entry*, int32_t entries, const ph_head*, int32_t heads, int32_t* plan);
PH_EXPORT int ph_plan_free(ph_model*, int32_t plan);

// Advance the sequences of all runs. A run that cannot go on fails alone: its status says why.
PH_EXPORT int ph_step(ph_model*, ph_run* runs, int32_t count);
// As ph_step, then again with what was drawn, until each run that draws has `most` tokens, one of `stops`, or a status
// that says why it went no further; the model is free for others between two steps. Of a run, `status` alone is told.
PH_EXPORT int ph_steps(ph_model*, ph_run* runs, ph_more* more, int32_t count, const int32_t* stops,
                       int32_t stops_count);
