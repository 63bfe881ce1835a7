// What libstdc++ of GCC 8, which manylinux_2_28 promises, does not have yet.
#include <sstream>

// since GLIBCXX_3.4.26; torch's headers call them
template std::basic_stringstream<char>::basic_stringstream();
template std::basic_ostringstream<char>::basic_ostringstream();

// Of GCC 11: a vector that is too long. Without it, one of GCC 8 would do.
#include <new>

namespace std {

[[noreturn]] void __throw_bad_array_new_length() {
  throw std::bad_array_new_length();
}

}  // namespace std
