#include "pool.h"

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ph {

namespace {

constexpr int SPINS = 4000;  // about a tenth of a millisecond

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void wait_while(const std::atomic<uint32_t>& value, uint32_t old) {
  for (int i = 0; i < SPINS; i++) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

// The processors this process may run on, so that workers can be spread over them.
std::vector<int> processors() {
  std::vector<int> found;
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    for (int i = 0; i < CPU_SETSIZE; i++)
      if (CPU_ISSET(i, &set)) found.push_back(i);
#endif
  return found;
}

void pin(int processor) {
#if defined(__linux__)
  if (processor < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  sched_setaffinity(0, sizeof set, &set);  // a wish: where it is refused, the scheduler decides
#else
  (void)processor;
#endif
}

}  // namespace

Pool::Pool(int threads) : size_(threads < 1 ? 1 : threads) {
  const std::vector<int> found = processors();
  // The caller is thread 0 and stays where it is; the workers take the other processors, from the last one down.
  for (int t = 1; t < size_; t++) {
    const int processor = size_ <= int(found.size()) ? found[found.size() - size_t(t)] : -1;
    threads_.emplace_back([this, t, processor] { serve(t, processor); });
  }
}

Pool::~Pool() {
  over_.store(true, std::memory_order_relaxed);
  asked_.fetch_add(1, std::memory_order_release);
  asked_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Pool::serve(int t, int processor) {
  pin(processor);
  for (uint32_t seen = 0;; seen++) {
    wait_while(asked_, seen);
    if (over_.load(std::memory_order_relaxed)) return;
    work_(argument_, t);
    barrier();
  }
}

void Pool::run(void (*work)(void*, int), void* argument) {
  work_ = work, argument_ = argument;
  asked_.fetch_add(1, std::memory_order_release);
  if (size_ > 1) asked_.notify_all();
  work(argument, 0);
  barrier();
}

void Pool::barrier() {
  if (size_ == 1) return;
  const uint32_t phase = phase_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == uint32_t(size_)) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    phase_.notify_all();
  } else {
    wait_while(phase_, phase);
  }
}

}  // namespace ph
