// The body of each kernels_*.cpp, which differ in the flags they are compiled with.
#include "multiply.h"
#include "pointwise.h"

namespace ph {
extern const Kernels PH_TABLE;
const Kernels PH_TABLE = {PH_NAME, multiply, quantize, normalize, gate, attend, dot, add_scaled, peak, read};
}  // namespace ph
