"""Run-ahead: the LM calls of a plain loop are answered together, not one after the other.

The real run of a cell stays sequential Python with real strings. Beside it, before a cell that can gain by it, the
worker keeps an idle fork of itself (`snapshot`). When the cell waits for an answer, the snapshot forks a throw-away
child (`child`) that runs the cell again from its start, in an instrumented form (`rewrite`), with every known answer
given and each unknown one replaced by a placeholder (`unknown`). The calls that the child meets are reported; the host
answers them together with the one that the cell waits for (`account` bounds and counts them), and hands each answer
over when the cell asks that very call.

So nothing that the child does can reach the real run: a fault in the instrumentation can waste calls or find too few,
never change a result.
"""
