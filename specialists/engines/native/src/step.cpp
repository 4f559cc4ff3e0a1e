// One step: check each run, grow its cache, send all rows through the layers together, report to each run.
#include <cstring>
#include <stdexcept>

#include "forward.h"

using namespace ph;

static bool known_tokens(const ph_model& model, const ph_run& run) {
  for (int i = 0; i < run.count; i++) {
    if (run.tokens[i] < 0 || run.tokens[i] >= model.shape.vocabulary) return false;
    if (run.targets != nullptr && run.targets[i] >= model.shape.vocabulary) return false;
  }
  for (int i = 0; run.taps != nullptr && i < run.taps_count; i++)
    if (run.tap_layers[i] < 0 || run.tap_layers[i] >= model.shape.layers) return false;
  return true;
}

// Whether the run can go on after `ahead` tokens of its sequence that are read in the same step; its sequence has room
// for it then.
static int admit(ph_model& model, ph_run& run, int ahead, int rows_left) {
  Sequence* sequence = model.sequences.find(run.sequence);
  const bool named = sequence != nullptr && (run.adapter < 0 || model.adapters.find(run.adapter) != nullptr) &&
                     (run.plan < 0 || model.plans.find(run.plan) != nullptr);
  if (!named || run.count < 1 || run.count > rows_left || run.tokens == nullptr || !known_tokens(model, run))
    return PH_BAD_ARGUMENT;
  if (sequence->length + ahead + run.count > model.shape.context) return PH_OUT_OF_CONTEXT;
  return model.cache.grow(*sequence, ahead + run.count) ? PH_OK : PH_OUT_OF_CACHE;
}

static void add_rows(ph_model& model, ph_run& run, int ahead, std::vector<Row>& rows) {
  Sequence* sequence = model.sequences.find(run.sequence);
  for (int i = 0; i < run.count; i++) {
    Row row;
    row.run = &run, row.index = i, row.sequence = sequence, row.position = sequence->length + ahead + i;
    row.adapter = run.adapter < 0 ? nullptr : model.adapters.find(run.adapter);
    row.plan = run.plan < 0 ? nullptr : model.plans.find(run.plan);
    const bool last = i == run.count - 1;
    row.wanted = (last && (run.draw || run.logits != nullptr)) ||
                 (run.logprobs != nullptr && run.targets != nullptr && run.targets[i] >= 0);
    rows.push_back(row);
  }
}

// Several runs of one sequence follow each other; after one that failed, the others cannot go on.
static void admit_all(ph_model& model, ph_run* runs, int count, std::vector<Row>& rows) {
  for (int i = 0; i < count; i++) {
    ph_run& run = runs[i];
    int ahead = 0;
    run.status = PH_OK;
    for (int before = 0; before < i; before++) {
      if (runs[before].sequence != run.sequence) continue;
      ahead += runs[before].count;
      if (runs[before].status != PH_OK) run.status = runs[before].status;
    }
    if (run.status == PH_OK) run.status = admit(model, run, ahead, model.shape.rows - int(rows.size()));
    if (run.status == PH_OK) add_rows(model, run, ahead, rows);
  }
}

void ph::step(ph_model& model, ph_run* runs, int count) {
  std::vector<Row> rows;
  admit_all(model, runs, count, rows);
  if (rows.empty()) return;
  Forward forward(model, rows);
  model.context->pool.run([](void* self, int t) { static_cast<Forward*>(self)->work(t); }, &forward);
  for (size_t i = 0; i < rows.size(); i++) {
    if (rows[i].index == 0) rows[i].sequence->length += rows[i].run->count;
    if (model.scratch->bad[i]) rows[i].run->status = PH_NOT_FINITE;
  }
}
