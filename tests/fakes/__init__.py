"""In-memory doubles of every port; the contract tests hold them to the behaviour of the real ones."""
