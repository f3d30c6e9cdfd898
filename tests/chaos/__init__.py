"""Processes killed at random moments: does every run end right, and what is paid twice?

``python -m tests.chaos`` is the long form (``make chaos``); ``test_chaos.py`` a short one.

- ``script``: what the models answer, the right answer, and which prompts it takes.
- ``job``: one process that begins or goes on with a run, and the hooks that kill at a chosen moment.
- ``launcher``: forks jobs from a process that has everything imported, and adopts what they leave behind.
- ``harness``: runs, kills, resumes, and counts.
- ``savers``: SQLite and PostgreSQL: how a job opens them, and what was committed when it died.
"""
