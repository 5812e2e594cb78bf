"""Marks for a folder of notebooks that nobody has read: `minidiff grade`.

The inputs, the reference and the verdict stay in this process; the student's code runs in a sandbox and answers calls.
"""
