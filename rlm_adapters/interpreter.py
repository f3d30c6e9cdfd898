"""stub"""
class RestrictedPythonInterpreter:
    execution_instructions = "x"
