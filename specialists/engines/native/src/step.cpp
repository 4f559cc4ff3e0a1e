// One step: check each run, grow its cache, send all rows through the layers together, report to each run.
#include <cstring>
#include <stdexcept>

#include "forward.h"

using namespace ph;

static int refuse(ph_run& run, int status) { return run.status = status; }

static bool known_tokens(const ph_model& model, const ph_run& run) {
  for (int i = 0; i < run.count; i++) {
    if (run.tokens[i] < 0 || run.tokens[i] >= model.shape.vocabulary) return false;
    if (run.targets != nullptr && run.targets[i] >= model.shape.vocabulary) return false;
  }
  for (int i = 0; run.taps != nullptr && i < run.taps_count; i++)
    if (run.tap_layers[i] < 0 || run.tap_layers[i] >= model.shape.layers) return false;
  return true;
}

// Whether the run can go on; its sequence has room for it then.
static int admit(ph_model& model, ph_run& run, int rows_left) {
  Sequence* sequence = model.sequences.find(run.sequence);
  const bool named = sequence != nullptr && (run.adapter < 0 || model.adapters.find(run.adapter) != nullptr) &&
                     (run.plan < 0 || model.plans.find(run.plan) != nullptr);
  if (!named || run.count < 1 || run.count > rows_left || run.tokens == nullptr || !known_tokens(model, run))
    return refuse(run, PH_BAD_ARGUMENT);
  if (sequence->length + run.count > model.shape.context) return refuse(run, PH_OUT_OF_CONTEXT);
  if (!model.cache.grow(*sequence, run.count)) return refuse(run, PH_OUT_OF_CACHE);
  return run.status = PH_OK;
}

static void add_rows(ph_model& model, ph_run& run, std::vector<Row>& rows) {
  Sequence* sequence = model.sequences.find(run.sequence);
  for (int i = 0; i < run.count; i++) {
    Row row;
    row.run = &run, row.index = i, row.sequence = sequence, row.position = sequence->length + i;
    row.adapter = run.adapter < 0 ? nullptr : model.adapters.find(run.adapter);
    row.plan = run.plan < 0 ? nullptr : model.plans.find(run.plan);
    const bool last = i == run.count - 1;
    row.wanted = (last && (run.draw || run.logits != nullptr)) ||
                 (run.logprobs != nullptr && run.targets != nullptr && run.targets[i] >= 0);
    rows.push_back(row);
  }
}

void ph::step(ph_model& model, ph_run* runs, int count) {
  std::vector<Row> rows;
  std::vector<const Sequence*> taken;
  for (int i = 0; i < count; i++) {
    ph_run& run = runs[i];
    if (admit(model, run, model.shape.rows - int(rows.size())) != PH_OK) continue;
    Sequence* sequence = model.sequences.find(run.sequence);
    bool twice = false;  // two runs of one sequence would write the same places
    for (const Sequence* other : taken) twice = twice || other == sequence;
    if (twice) {
      refuse(run, PH_BAD_ARGUMENT);
      continue;
    }
    taken.push_back(sequence);
    add_rows(model, run, rows);
  }
  if (rows.empty()) return;
  Forward forward(model, rows);
  model.context->pool.run([](void* self, int t) { static_cast<Forward*>(self)->work(t); }, &forward);
  for (const Row& row : rows) {
    if (row.index == 0) row.sequence->length += row.run->count;
    if (model.scratch->bad[size_t(&row - rows.data())]) row.run->status = PH_NOT_FINITE;
  }
}
