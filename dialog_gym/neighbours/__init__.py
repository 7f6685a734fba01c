"""Our environments in other people's tools: one file each, which imports its tool and is imported by its users alone.

What needs no file of ours, since it takes Gymnasium environments as they are, is tested in ``tests/neighbours``.
"""
