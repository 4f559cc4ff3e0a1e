// Aligned memory, in huge pages where it is large: weights are read from end to end for every token, and walking
// the page tables for 4 KiB pages would cost a tenth of that.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>
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

// Zeroed, owned bytes from a multiple of CACHE_LINE on.
class Memory {
 public:
  Memory() = default;
  explicit Memory(size_t wanted) {
    const size_t bytes = round_up(wanted + CACHE_LINE, CACHE_LINE);
#if defined(__linux__)
    if (bytes >= HUGE_PAGE) {
      mapped_ = round_up(bytes, PAGE);
      data_ = map_pages(mapped_);
      if (data_ == nullptr) throw std::bad_alloc();
      return;
    }
#endif
    data_ = std::aligned_alloc(CACHE_LINE, bytes);
    if (data_ == nullptr) throw std::bad_alloc();
    __builtin_memset(data_, 0, bytes);
  }
  ~Memory() {
#if defined(__linux__)
    if (mapped_ > 0) {
      munmap(data_, mapped_);
      return;
    }
#endif
    std::free(data_);
  }
  Memory(Memory&& other) noexcept { *this = std::move(other); }
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(mapped_, other.mapped_);
    return *this;
  }
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
  size_t mapped_ = 0;  // bytes of pages of its own; 0 for memory of the heap
};

// Memory for many arrays that end together, one after another in huge pages: the small matrices of a model or of an
// adapter, which are read in this order.
class Arena {
 public:
  // Zeroed, from a multiple of CACHE_LINE on; it lasts as long as the arena.
  void* take(size_t bytes) {
    bytes = round_up(bytes + CACHE_LINE, CACHE_LINE);
    if (bytes > CHUNK / 2) return chunks_.emplace_back(bytes).data();
    if (bytes > left_) {
      // Ever larger ones, for the last huge page of each is half empty; a small adapter shall not ask for much.
      left_ = CHUNK << (chunks_.size() < 3 ? chunks_.size() : 3);
      next_ = static_cast<uint8_t*>(chunks_.emplace_back(left_).data());
    }
    left_ -= bytes, next_ += bytes;
    return next_ - bytes;
  }

 private:
  // Pages that are not written take nothing. Where they would, or where the sanitizer is to see the end of every
  // array, each has its own.
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
  static constexpr size_t CHUNK = 8 * HUGE_PAGE;
#else
  static constexpr size_t CHUNK = 0;
#endif
  std::vector<Memory> chunks_;
  uint8_t* next_ = nullptr;
  size_t left_ = 0;
};

// A zeroed array aligned to a cache line, owned or of an arena.
template <class T>
class Array {
 public:
  Array() = default;
  explicit Array(size_t count, Arena* arena = nullptr) : size_(count) {
    if (arena == nullptr) own_ = Memory(count * sizeof(T));
    data_ = static_cast<T*>(arena == nullptr ? own_.data() : arena->take(count * sizeof(T)));
  }
  Array(Array&& other) noexcept { *this = std::move(other); }
  Array& operator=(Array&& other) noexcept {
    std::swap(own_, other.own_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  size_t bytes() const { return size_ * sizeof(T); }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }

 private:
  Memory own_;
  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace ph
