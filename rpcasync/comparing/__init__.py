"""Whether two answers are the same to a Perl program, and if not, where they differ.

`scalars` has the rule for two plain values, `differences` what a difference is and how values are
shown, and `answers` goes through both answers. Nothing here knows where they came from.
"""
