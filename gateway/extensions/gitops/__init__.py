"""GitOps: clones on this machine follow their remote, and each new revision is rolled out by configured steps.

``config`` is what can be configured; ``webhook`` and ``routes`` are how GitHub and people ask for a run; ``service``
runs it all; ``reconcile`` is one run, made of ``git`` (a clone, handled with care) and ``steps``. What it does and
never does is in docs/decisions/0016.
"""
