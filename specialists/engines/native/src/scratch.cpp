#include "scratch.h"

#include <algorithm>

using namespace ph;

// Group sizes that any weights of the model use.
static std::vector<int> groups_of(const ph_model& model) {
  std::vector<int> found;
  const auto note = [&](const Matrix& m) {
    if (!m.dense() && std::find(found.begin(), found.end(), m.group) == found.end()) found.push_back(m.group);
  };
  for (const Layer& layer : model.layers)
    for (const Matrix& m : layer.maps) note(m);
  note(model.output());
  return found;
}

ph_scratch::ph_scratch(const ph_model& model) {
  const ph_shape& s = model.shape;
  const int queries = s.heads * s.head_size, keys = s.groups * s.head_size;
  const int normed_rows = std::max(s.rows, HEAD_ROWS);
  x = Rows(s.rows, s.width), normed = Rows(normed_rows, s.width);
  q = Rows(s.rows, queries), k = Rows(s.rows, keys), v = Rows(s.rows, keys), mixed = Rows(s.rows, queries);
  gate = Rows(s.rows, s.inner), up = Rows(s.rows, s.inner);
  logits = Rows(HEAD_ROWS, s.vocabulary);
  const int widest = std::max({s.width, queries, s.inner});
  const size_t positions = round_up(size_t(s.context), POSITIONS);
  own.resize(size_t(model.context->pool.size()));
  for (int group : groups_of(model)) quant[group_slot(group)].hold(normed_rows, s.parts, widest, group);
  for (Private& one : own) {
    one.normed = Rows(1, s.width);
    // scores of one key-value head's queries, and those queries turned and padded
    one.scores = Array<float>(size_t(s.heads / s.groups) * (positions + size_t(model.head_padded)));
    for (int group : groups_of(model)) one.quant[group_slot(group)].hold(1, s.parts, widest, group);
  }
  peaks.resize(size_t(HEAD_ROWS) * size_t((s.vocabulary + PEAK_CHUNK - 1) / PEAK_CHUNK));
  bad.resize(size_t(s.rows));
}

void ph_scratch::hold_low(int rows, size_t columns) {
  if (columns <= low_columns) return;
  low = Rows(rows, int(columns));
  low_columns = columns;
}
