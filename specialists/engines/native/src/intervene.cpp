// Steering, gates, taps and heads on one token's residual stream; the arithmetic of kernels/steer.py.
#include <cmath>
#include <cstring>

#include "forward.h"

namespace ph {

static bool in_scope(const Entry& entry, const ph_run& run) {
  return run.generation ? entry.head.in_generation : entry.head.in_prompt;
}

static float length(const Kernels& kernels, const float* x, int width) { return std::sqrt(kernels.dot(x, x, width)); }

static float amount_of(const Kernels& kernels, const Entry& entry, const float* x, int width) {
  const ph_entry& head = entry.head;
  if (head.kind == PH_ADD) return head.relative ? head.coefficient * length(kernels, x, width) : head.coefficient;
  const float measured = kernels.dot(x, entry.reader.data(), width) + head.reader_bias;
  if (head.kind == PH_PROJECT_OUT) return -head.coefficient * measured;
  if (head.kind == PH_SCALE) return (head.coefficient - 1) * measured;
  return head.coefficient - (measured > head.reader_threshold ? measured : 0.0f);
}

static void act(const Kernels& kernels, const Entry& entry, float* x, int width) {
  const float before = entry.head.keep_norm ? length(kernels, x, width) : 0;
  kernels.add_scaled(x, entry.vector.data(), amount_of(kernels, entry, x, width), width);
  if (!entry.head.keep_norm) return;
  const float now = length(kernels, x, width);
  for (int i = 0; now > 0 && i < width; i++) x[i] *= before / now;
}

static void tap(const ph_run& run, int index, int layer, const float* x, int width) {
  for (int i = 0; run.taps != nullptr && i < run.taps_count; i++)
    if (run.tap_layers[i] == layer)
      std::memcpy(run.taps + size_t(i) * size_t(run.taps_stride) + size_t(index) * size_t(width), x,
                  sizeof(float) * size_t(width));
}

// All of a layer's heads in one pass over the state.
static void read(const Kernels& kernels, const Heads& heads, const float* x, float* readings) {
  thread_local std::vector<float> found;
  const size_t padded = size_t(heads.weights.blocks) * BLOCK;
  if (found.size() < padded) found.resize(padded);
  kernels.multiply(heads.weights, 0, heads.weights.blocks, x, 0, nullptr, 1, found.data(), 0, false);
  for (size_t i = 0; i < heads.places.size(); i++) readings[heads.places[i]] = found[i];
}

static void steer(const Kernels& kernels, const ph_shape& shape, Row& row, int layer, float* x) {
  const ph_run& run = *row.run;
  const Plan& plan = *row.plan;
  // Gates see the stream before any vector of their own layer acts.
  row.gates.resize(plan.entries.size());
  for (size_t i = 0; i < plan.entries.size(); i++) {
    const Entry& entry = plan.entries[i];
    if (entry.head.gate_layer != layer) continue;
    row.gates[i] = kernels.dot(x, entry.gate.data(), shape.width) + entry.head.gate_bias >= entry.head.gate_threshold;
  }
  for (size_t i = 0; i < plan.entries.size(); i++) {
    const Entry& entry = plan.entries[i];
    if (entry.head.layer != layer || !in_scope(entry, run)) continue;
    if (entry.head.gate_layer >= 0 && !row.gates[i]) continue;
    act(kernels, entry, x, shape.width);
  }
  for (const Heads& heads : plan.heads)
    if (run.readings != nullptr && heads.layer == layer)
      read(kernels, heads, x, run.readings + size_t(row.index) * size_t(plan.head_count));
}

void intervene(const Kernels& kernels, const ph_shape& shape, Row& row, int layer, float* x) {
  const ph_run& run = *row.run;
  if (!run.taps_steered) tap(run, row.index, layer, x, shape.width);
  if (row.plan != nullptr) steer(kernels, shape, row, layer, x);
  if (run.taps_steered) tap(run, row.index, layer, x, shape.width);
}

}  // namespace ph
