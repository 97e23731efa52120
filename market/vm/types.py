def check(program, exports): pass
def check_calls(program, exports): pass
def check_library(name, source): pass
