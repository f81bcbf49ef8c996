// The dtypes that compiled code takes.
#pragma once

namespace buttress {

enum class Type { float32, float64, float16, bfloat16 };

}  // namespace buttress
