"""stub"""
def describe_signature(signature, max_output_chars): return {}
