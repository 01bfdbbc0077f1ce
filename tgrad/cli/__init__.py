"""The command `tgrad`.

In: arguments. Out: text and an exit status. Invariant: nothing else imports this package.
"""
