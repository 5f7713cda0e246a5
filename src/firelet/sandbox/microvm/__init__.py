"""The ground of the microVM driver: machines, their images and what runs in them.

Not a sandbox driver yet: see ``docs/microvm.md``.
"""
