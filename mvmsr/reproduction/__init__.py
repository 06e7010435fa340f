"""The paper's tables again: what they say, what has to be trained for them, and ours beside them."""
