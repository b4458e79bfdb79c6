"""What the README's figures come from: `python -m benchmarks [NAME …]`, or `make bench`.

Every figure stands beside what the bare part does on the same machine in the same run, round by round in turn, so that
a ratio holds where the machine's speed drifts. Nothing here is a test: a figure is published, never asserted.
"""
