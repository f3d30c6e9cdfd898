"""Run-ahead: answer the LM calls of a plain loop together, not one after the other.

The real run of a cell is sequential Python with real strings. Before a cell for which run-ahead can help, the worker
makes an idle fork of itself (`snapshot`). When the cell waits for an answer, the snapshot forks a child (`child`). The
child runs the cell again from its start in an instrumented form (`rewrite`). It has all known answers, and a
placeholder for each unknown one (`unknown`). It reports the calls that it reaches, and ends. The host answers them
together with the call that the cell waits for (`AheadAccount` limits and counts them), and sends each answer when the
cell makes the call.

The child cannot affect the real run. A fault in the instrumentation can cause unused calls or find too few, but can
never change a result.
"""
