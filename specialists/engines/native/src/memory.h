// Aligned memory, in huge pages where it is large: weights are read from end to end for every token, and walking
// the page tables for 4 KiB pages would cost a tenth of that.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace ph {

inline size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

constexpr size_t HUGE_PAGE = size_t{2} << 20, PAGE = 4096, CACHE_LINE = 64;

#if defined(__linux__)
// Zeroed pages from a multiple of HUGE_PAGE on; null where there are none. Not the heap's, for two reasons: a matrix of
// 2.1 MB takes one huge page and some small ones, not two huge ones, and what is never written takes nothing.
inline void* map_pages(size_t bytes) {
  void* const found = mmap(nullptr, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (found == MAP_FAILED) return nullptr;
  uint8_t* const begin = static_cast<uint8_t*>(found);
  uint8_t* const start = begin + (round_up(reinterpret_cast<uintptr_t>(begin), HUGE_PAGE) - reinterpret_cast<uintptr_t>(begin));
  if (start > begin) munmap(begin, size_t(start - begin));
  if (start < begin + HUGE_PAGE) munmap(start + bytes, size_t(begin + HUGE_PAGE - start));
  madvise(start, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
  return start;
}
#endif

// A zeroed, owned array aligned to a cache line.
template <class T>
class Array {
 public:
  Array() = default;
  explicit Array(size_t count) : size_(count) {
    const size_t bytes = round_up(count * sizeof(T) + CACHE_LINE, CACHE_LINE);
#if defined(__linux__)
    if (bytes >= HUGE_PAGE) {
      mapped_ = round_up(bytes, PAGE);
      data_ = static_cast<T*>(map_pages(mapped_));
      if (data_ == nullptr) throw std::bad_alloc();
      return;
    }
#endif
    data_ = static_cast<T*>(std::aligned_alloc(CACHE_LINE, bytes));
    if (data_ == nullptr) throw std::bad_alloc();
    __builtin_memset(static_cast<void*>(data_), 0, bytes);
  }
  ~Array() {
#if defined(__linux__)
    if (mapped_ > 0) {
      munmap(static_cast<void*>(data_), mapped_);
      return;
    }
#endif
    std::free(data_);
  }
  Array(Array&& other) noexcept { *this = std::move(other); }
  Array& operator=(Array&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(mapped_, other.mapped_);
    return *this;
  }
  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  size_t bytes() const { return size_ * sizeof(T); }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0, mapped_ = 0;  // numbers; bytes of pages of its own, 0 for memory of the heap
};

}  // namespace ph
