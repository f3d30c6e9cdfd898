"""What the sandbox withstands, counted: ``make security``, or ``python -m benchmarks.security``.

The machinery is that of the tests; here everything is run and told in numbers.
"""
