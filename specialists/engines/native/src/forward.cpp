#include "forward.h"

#include <cmath>
#include <cstring>

namespace ph {

Forward::Forward(ph_model& model, std::vector<Row>& rows)
    : model_(model),
      scratch_(*model.scratch),
      kernels_(*model.context->kernels),
      rows_(rows),
      count_(int(rows.size())),
      threads_(model.context->pool.size()),
      touched_(size_t(model.shape.layers)),
      inputs_(size_t(threads_)) {
  for (int i = 0; i < count_; i++) {
    const Row& row = rows_[size_t(i)];
    if (row.wanted) wanted_.push_back(i);
    many_ = many_ || (i > 0 && rows_[size_t(i) - 1].sequence == row.sequence) || row.index > 0;
    if (row.adapter != nullptr) {
      if (!spans_.empty() && spans_.back().end == i && spans_.back().adapter == row.adapter)
        spans_.back().end = i + 1;
      else
        spans_.push_back({i, i + 1, row.adapter});
    }
    for (int tap = 0; row.run->taps != nullptr && tap < row.run->taps_count; tap++)
      touched_[size_t(row.run->tap_layers[tap])] = 1;
    if (row.plan == nullptr) continue;
    for (const Entry& entry : row.plan->entries) {
      touched_[size_t(entry.head.layer)] = 1;
      if (entry.head.gate_layer >= 0) touched_[size_t(entry.head.gate_layer)] = 1;
    }
    for (const Heads& heads : row.plan->heads) touched_[size_t(heads.layer)] = 1;
  }
}

Forward::Part Forward::share(int count, int t) const {
  return {int(int64_t(count) * t / threads_), int(int64_t(count) * (t + 1) / threads_)};
}

void Forward::work(int t) {
  embed(t);
  for (int layer = 0; layer < model_.shape.layers; layer++) {
    attention_inputs(layer, t);
    attention(layer, t);
    attention_output(layer, t);
    feed_forward(layer, t);
    if (meets_after(layer)) {
      after_layer(layer, t);
      model_.context->pool.barrier();
    }
  }
  finish(t);
}

void Forward::embed(int t) {
  const Part mine = share(count_, t);
  for (int i = mine.begin; i < mine.end; i++) {
    const Row& row = rows_[size_t(i)];
    model_.embedding.unpack_row(row.run->tokens[row.index], scratch_.x[i]);
  }
  model_.context->pool.barrier();
}

// -- inputs of products ---------------------------------------------------------------------------------------------

void Forward::views(QuantMemory* memory, Input& input, const Matrix* const* readers, int count) {
  for (int i = 0; i < count; i++)
    if (!readers[i]->dense()) {
      const int slot = group_slot(readers[i]->group);
      input.quant[slot] = memory[slot].view(model_.shape.parts, readers[i]->columns, readers[i]->group);
    }
}

void Forward::quantize_row(const float* x, int row, const Input& input, const Matrix* const* readers, int count) {
  bool done[GROUP_SIZES] = {};
  for (int i = 0; i < count; i++) {
    if (readers[i]->dense()) continue;
    const int slot = group_slot(readers[i]->group);
    if (!done[slot]) kernels_.quantize(x, input.quant[slot], row, readers[i]->group);
    done[slot] = true;
  }
}

const Input& Forward::normalized(const std::vector<float>& weight, const Matrix* const* readers, int count, int t) {
  Input& input = inputs_[size_t(t)];
  const bool alone = count_ == 1;
  Private& own = scratch_.own[size_t(t)];
  Rows& to = alone ? own.normed : scratch_.normed;
  QuantMemory* memory = alone ? own.quant : scratch_.quant;
  input.x = to[0], input.stride = to.stride;
  views(memory, input, readers, count);
  const Part mine = alone ? Part{0, 1} : share(count_, t);
  for (int i = mine.begin; i < mine.end; i++) {
    kernels_.normalize(scratch_.x[i], weight.data(), to[i], model_.shape.width, model_.shape.epsilon);
    quantize_row(to[i], i, input, readers, count);
  }
  if (!alone) model_.context->pool.barrier();
  return input;
}

const Input& Forward::prepared(Rows& rows, const Matrix* const* readers, int count, int t) {
  Input& input = inputs_[size_t(t)];
  const bool alone = count_ == 1;
  QuantMemory* memory = alone ? scratch_.own[size_t(t)].quant : scratch_.quant;
  input.x = rows[0], input.stride = rows.stride;
  views(memory, input, readers, count);
  const Part mine = alone ? Part{0, 1} : share(count_, t);
  bool any = false;
  for (int i = 0; i < count; i++) any = any || !readers[i]->dense();
  if (!any) return input;
  for (int i = mine.begin; i < mine.end; i++) quantize_row(rows[i], i, input, readers, count);
  if (!alone) model_.context->pool.barrier();
  return input;
}

// -- products -------------------------------------------------------------------------------------------------------

// Ask for the beginning of what is read next; its rest the processor asks for by itself.
static void near(const Matrix& m, int block) {
  for (size_t at = 0; block < m.blocks && at < 2048; at += 64) __builtin_prefetch(m.block(block) + at);
}

// The adapters' first products of a site, for all rows that have one. Their blocks of 16 ranks lie in one row, of which
// every thread takes an equal part.
void Forward::adapters_in(int layer, Site site, const Input& input, int t) {
  if (spans_.empty()) return;
  const auto low_of = [&](size_t span) -> const Matrix& {
    return spans_[span].adapter->sites[size_t(layer) * SITES + site].a;
  };
  int all = 0, start = 0;
  for (size_t i = 0; i < spans_.size(); i++) all += low_of(i).blocks;
  const Part mine = share(all, t);
  for (size_t i = 0; i < spans_.size(); i++) {
    const Span& span = spans_[i];
    const Matrix& a = low_of(i);
    const int begin = mine.begin > start ? mine.begin - start : 0;
    const int end = mine.end - start < a.blocks ? mine.end - start : a.blocks;
    start += a.blocks;
    if (begin >= end) continue;
    if (i + 1 < spans_.size()) near(low_of(i + 1), 0);
    QuantRows quant;
    if (!a.dense()) quant = input.quant[group_slot(a.group)].from(span.begin);
    kernels_.multiply(a, begin, end, input.x + size_t(span.begin) * input.stride, input.stride, &quant,
                      span.end - span.begin, scratch_.low[span.begin], scratch_.low.stride, false);
  }
  model_.context->pool.barrier();
}

void Forward::product(int layer, int map, const Input& input, Part blocks, Rows& to, bool add) {
  const Matrix& weights = model_.layers[size_t(layer)].maps[map];
  const QuantRows* quant = weights.dense() ? nullptr : &input.quant[group_slot(weights.group)];
  const auto out_of = [&](size_t span) -> const LowRank::Out& {
    return spans_[span].adapter->sites[size_t(layer) * SITES + size_t(site_of(map))].maps[map];
  };
  if (!spans_.empty()) near(out_of(0).b, blocks.begin);
  kernels_.multiply(weights, blocks.begin, blocks.end, input.x, input.stride, quant, count_, to[0], to.stride, add);
  for (size_t i = 0; i < spans_.size(); i++) {
    const Span& span = spans_[i];
    const LowRank::Out& out = out_of(i);
    if (i + 1 < spans_.size()) near(out_of(i + 1).b, blocks.begin);
    if (out.b.blocks == 0) continue;
    kernels_.multiply(out.b, blocks.begin, blocks.end, scratch_.low[span.begin] + out.at, scratch_.low.stride, nullptr,
                      span.end - span.begin, to[span.begin], to.stride, true);
  }
}

void Forward::attention_inputs(int layer, int t) {
  const Layer& one = model_.layers[size_t(layer)];
  const Matrix* readers[] = {&one.maps[PH_Q], &one.maps[PH_K], &one.maps[PH_V]};
  if (layer > 0 && touched_[size_t(layer) - 1] && !meets_after(layer - 1)) after_layer(layer - 1, t);
  const Input& input = normalized(one.norms[PH_NORM_INPUT], readers, 3, t);
  adapters_in(layer, SITE_QKV, input, t);
  // The blocks of all three in one row, of which every thread takes an equal part.
  const int ends[] = {readers[0]->blocks, readers[0]->blocks + readers[1]->blocks,
                      readers[0]->blocks + readers[1]->blocks + readers[2]->blocks};
  const Part mine = share(ends[2], t);
  Rows* to[] = {&scratch_.q, &scratch_.k, &scratch_.v};
  for (int map = PH_Q; map <= PH_V; map++) {
    const int start = map == PH_Q ? 0 : ends[map - 1];
    const int begin = mine.begin > start ? mine.begin : start, end = mine.end < ends[map] ? mine.end : ends[map];
    if (begin < end) product(layer, map, input, {begin - start, end - start}, *to[map], false);
  }
  model_.context->pool.barrier();
}

void Forward::attention_output(int layer, int t) {
  const Layer& one = model_.layers[size_t(layer)];
  const Matrix* readers[] = {&one.maps[PH_O]};
  const Input& input = prepared(scratch_.mixed, readers, 1, t);
  adapters_in(layer, SITE_O, input, t);
  product(layer, PH_O, input, share(readers[0]->blocks, t), scratch_.x, true);
  model_.context->pool.barrier();
}

void Forward::feed_forward(int layer, int t) {
  const Layer& one = model_.layers[size_t(layer)];
  const Matrix* in[] = {&one.maps[PH_GATE], &one.maps[PH_UP]};
  const Input& input = normalized(one.norms[PH_NORM_POST], in, 2, t);
  adapters_in(layer, SITE_GATE_UP, input, t);
  const Part mine = share(in[0]->blocks, t);  // the same part of both, which meet here
  product(layer, PH_GATE, input, mine, scratch_.gate, false);
  product(layer, PH_UP, input, mine, scratch_.up, false);
  for (int i = 0; i < count_; i++)
    kernels_.gate(scratch_.gate[i] + mine.begin * BLOCK, scratch_.up[i] + mine.begin * BLOCK,
                  (mine.end - mine.begin) * BLOCK);
  model_.context->pool.barrier();
  const Matrix* out[] = {&one.maps[PH_DOWN]};
  const Input& inner = prepared(scratch_.gate, out, 1, t);
  adapters_in(layer, SITE_DOWN, inner, t);
  product(layer, PH_DOWN, inner, share(out[0]->blocks, t), scratch_.x, true);
  model_.context->pool.barrier();
}

// -- attention ------------------------------------------------------------------------------------------------------

// Turn pairs (i, i + half) by the position's angles.
static void rotate(float* x, const float* cosines, const float* sines, int half) {
  for (int i = 0; i < half; i++) {
    const float a = x[i], b = x[half + i];
    x[i] = a * cosines[i] - b * sines[i];
    x[half + i] = b * cosines[i] + a * sines[i];
  }
}

void Forward::write_cache(int layer, int row, int group) {
  const Row& one = rows_[size_t(row)];
  const int size = model_.shape.head_size, padded = model_.head_padded, half = size / 2;
  const std::vector<float>& norm = model_.layers[size_t(layer)].norms[PH_NORM_K];
  float* key = scratch_.k[row] + group * size;
  if (!norm.empty()) kernels_.normalize(key, norm.data(), key, size, model_.shape.epsilon);
  const size_t angle = size_t(one.position) * size_t(half);
  rotate(key, model_.cosines.data() + angle, model_.sines.data() + angle, half);
  const int at = one.position % POSITIONS;
  float* keys = one.sequence->head(model_.cache.shape(), one.position / POSITIONS, layer, group);
  for (int d = 0; d < size; d++) keys[size_t(d) * POSITIONS + size_t(at)] = key[d];
  float* values = keys + size_t(padded) * POSITIONS + size_t(at) * size_t(padded);
  std::memcpy(values, scratch_.v[row] + group * size, sizeof(float) * size_t(size));
}

void Forward::attend_row(int layer, int row, int group, int t) {
  const Row& one = rows_[size_t(row)];
  const ph_shape& s = model_.shape;
  const int heads = s.heads / s.groups, size = s.head_size, padded = model_.head_padded;
  const std::vector<float>& norm = model_.layers[size_t(layer)].norms[PH_NORM_Q];
  const size_t angle = size_t(one.position) * size_t(size / 2);
  const float scale = 1.0f / std::sqrt(float(size));
  // The thread's scratch begins with the queries, turned, scaled and padded.
  float* queries = scratch_.own[size_t(t)].scores.data();
  for (int h = 0; h < heads; h++) {
    float* from = scratch_.q[row] + (group * heads + h) * size;
    float* query = queries + h * padded;
    if (!norm.empty()) kernels_.normalize(from, norm.data(), from, size, s.epsilon);
    rotate(from, model_.cosines.data() + angle, model_.sines.data() + angle, size / 2);
    for (int d = 0; d < padded; d++) query[d] = d < size ? from[d] * scale : 0.0f;
  }
  const int positions = one.position + 1, blocks = (positions + POSITIONS - 1) / POSITIONS;
  thread_local std::vector<float*> places;
  places.clear();
  for (int b = 0; b < blocks; b++) places.push_back(one.sequence->head(model_.cache.shape(), b, layer, group));
  Attention attention{};
  attention.queries = queries, attention.blocks = places.data();
  attention.scores = queries + size_t(heads) * size_t(padded);
  attention.out = scratch_.mixed[row] + group * heads * size;
  attention.heads = heads, attention.size = padded, attention.positions = positions, attention.out_size = size;
  kernels_.attend(attention);
}

void Forward::attention(int layer, int t) {
  const int groups = model_.shape.groups;
  const Part mine = share(count_ * groups, t);
  // Units are (key-value head, row), head by head: a thread reads few heads' caches.
  for (int unit = mine.begin; unit < mine.end; unit++) write_cache(layer, unit % count_, unit / count_);
  if (many_) model_.context->pool.barrier();
  for (int unit = mine.begin; unit < mine.end; unit++) attend_row(layer, unit % count_, unit / count_, t);
  model_.context->pool.barrier();
}

// Of several rows, each is looked at by the thread that reads it first in the next layer, so nobody waits.
bool Forward::meets_after(int layer) const {
  return touched_[size_t(layer)] && (count_ == 1 || layer + 1 == model_.shape.layers);
}

void Forward::after_layer(int layer, int t) {
  const Part mine = share(count_, t);
  for (int i = mine.begin; i < mine.end; i++)
    intervene(kernels_, model_.shape, rows_[size_t(i)], layer, scratch_.x[i]);
}

// -- logits ---------------------------------------------------------------------------------------------------------

void Forward::finish(int t) {
  const Part mine = share(count_, t);
  for (int i = mine.begin; i < mine.end; i++) {
    const float* x = scratch_.x[i];
    scratch_.bad[size_t(i)] = !std::isfinite(kernels_.dot(x, x, model_.shape.width));
  }
  for (size_t first = 0; first < wanted_.size(); first += HEAD_ROWS) {
    const size_t left = wanted_.size() - first;
    head_rows(int(first), int(left < HEAD_ROWS ? left : HEAD_ROWS), t);
  }
}

void Forward::head_rows(int first, int count, int t) {
  const Matrix& head = model_.output();
  Input& input = inputs_[size_t(t)];
  const Matrix* readers[] = {&head};
  QuantMemory* memory = scratch_.quant;
  views(memory, input, readers, 1);
  input.x = scratch_.normed[0], input.stride = scratch_.normed.stride;
  for (int i = t; i < count; i += threads_) {
    float* to = scratch_.normed[i];
    kernels_.normalize(scratch_.x[wanted_[size_t(first + i)]], model_.final_norm.data(), to, model_.shape.width,
                       model_.shape.epsilon);
    quantize_row(to, i, input, readers, 1);
  }
  model_.context->pool.barrier();
  const Part mine = share(head.blocks, t);
  const QuantRows* quant = head.dense() ? nullptr : &input.quant[group_slot(head.group)];
  kernels_.multiply(head, mine.begin, mine.end, input.x, input.stride, quant, count, scratch_.logits[0],
                    scratch_.logits.stride, false);
  model_.context->pool.barrier();
  const int vocabulary = model_.shape.vocabulary, chunks = (vocabulary + PEAK_CHUNK - 1) / PEAK_CHUNK;
  for (int unit = t; unit < count * chunks; unit += threads_) {
    const int row = unit / chunks, start = unit % chunks * PEAK_CHUNK;
    Peak& found = scratch_.peaks[size_t(unit)];
    found = kernels_.peak(scratch_.logits[row] + start, vocabulary - start < PEAK_CHUNK ? vocabulary - start : PEAK_CHUNK);
    found.index += start;
  }
  model_.context->pool.barrier();
  if (t == 0) report(first, count);
  model_.context->pool.barrier();
}

void Forward::report(int first, int count) {
  const int vocabulary = model_.shape.vocabulary, chunks = (vocabulary + PEAK_CHUNK - 1) / PEAK_CHUNK;
  for (int i = 0; i < count; i++) {
    const Row& row = rows_[size_t(wanted_[size_t(first + i)])];
    const Peak* peaks = scratch_.peaks.data() + size_t(i) * size_t(chunks);
    const float* logits = scratch_.logits[i];
    const Peak* best = peaks;
    for (int c = 1; c < chunks; c++)
      if (peaks[c].largest > best->largest) best = peaks + c;
    double sum = 0;
    for (int c = 0; c < chunks; c++) sum += double(peaks[c].sum) * std::exp(double(peaks[c].largest) - best->largest);
    const double normaliser = double(best->largest) + std::log(sum);
    ph_run& run = *row.run;
    if (run.logprobs != nullptr && run.targets != nullptr && run.targets[row.index] >= 0)
      run.logprobs[row.index] = float(logits[run.targets[row.index]] - normaliser);
    if (row.index != run.count - 1) continue;
    run.token = best->index;
    run.logprob = float(best->largest - normaliser);
    run.normaliser = float(normaliser);
    if (run.logits != nullptr) std::memcpy(run.logits, logits, sizeof(float) * size_t(vocabulary));
  }
}

}  // namespace ph
