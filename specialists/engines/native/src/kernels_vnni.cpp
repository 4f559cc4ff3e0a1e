#define PH_NAME "vnni"
#define PH_TABLE kernels_vnni
#include "table.h"
