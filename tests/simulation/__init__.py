"""Thousands of invented stories: everything on one clock, one seed, faults at random moments.

`world` has what can go wrong, `checks` what must hold afterwards, `run` plays seeds and tells the story
of one that failed, `breakages` removes one mechanism after the other to see that a check notices.
"""
