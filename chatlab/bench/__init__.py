"""Benchmarks: chatlab side by side with a few plain lines of the bare library.

Absolute figures belong to one machine, ratios travel. So every figure is a ratio, measured in
one run, in alternating rounds (base, ours, base, ours …), and shown with medians and spread.

- ``baselines``: all the bare code, in one file that anyone can audit;
- ``figures``: what is measured, with the goal;
- ``report``: rounds, medians, the table that ``chatlab bench`` prints.
"""
