#define PH_NAME "avx512"
#define PH_TABLE kernels_avx512
#include "table.h"
