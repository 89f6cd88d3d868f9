"""The exception for what a user got wrong, so that a mistake of ours is never taken for one."""


class UserError(ValueError):
    """A user's mistake, with a message that says what is wrong and what to do.

    Raised where the mistake is recognised. A script prints the message in one line and exits with 2 (`run_script`);
    every other exception is a bug and keeps its traceback.
    """
