#define PH_NAME "plain"
#define PH_TABLE kernels_plain
#include "table.h"
