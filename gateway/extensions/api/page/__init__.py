"""The live page: telemetry and the hub itself, for people who would rather look than ask.

`shell` is what all views share, and says how one is added; `views` lists them.
"""
