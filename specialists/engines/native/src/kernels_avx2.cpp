#define PH_NAME "avx2"
#define PH_TABLE kernels_avx2
#include "table.h"
