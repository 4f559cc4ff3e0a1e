#define PH_NAME "amx"
#define PH_TABLE kernels_amx
#include "table.h"
