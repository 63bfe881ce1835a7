// What libstdc++ of GCC 8, which manylinux_2_28 promises, does not have yet.
#include <sstream>

// since GLIBCXX_3.4.26; torch's headers call them
template std::basic_stringstream<char>::basic_stringstream();
template std::basic_ostringstream<char>::basic_ostringstream();
