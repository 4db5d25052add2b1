"""The limits on input and on durations, with their units and reasons."""

MIB = 1024 * 1024

# OpenAI's limits for a batch; callers already split files by these limits.
MAX_LINES = 50_000
MAX_BATCH_FILE_BYTES = 200 * MIB
# OpenAI's limit for files of other purposes.
MAX_FILE_BYTES = 512 * MIB

# A chat line with a few images inlined as base64 stays below this limit. Above the limit, the memory of a worker, which
# holds a line for each call in flight, would have no sensible bound.
MAX_LINE_BYTES = 8 * MIB
# A custom_id is repeated in the output; 512 characters hold any path or hash that callers join by.
MAX_CUSTOM_ID_CHARS = 512
# Longer than any name or path of a model.
MAX_MODEL_CHARS = 512
# Enough errors to mend a file by, few enough for a row and a response.
MAX_LINE_ERRORS = 100
# Deeper than any real request; at greater depth parsers, wylon's and the upstream's, differ and crash.
MAX_JSON_DEPTH = 100

# Embeddings of 1,024 texts with 1,024 numbers each are 20 MiB, with 3,072 numbers 60 MiB.
MAX_ANSWER_MIB = 64
MAX_ANSWER_BYTES = MAX_ANSWER_MIB * MIB

# The most tokens that a call may report; a hundred times the longest context in use.
MAX_TOKENS_PER_CALL = 1_000_000_000

# OpenAI's limits on metadata.
MAX_METADATA_PAIRS = 16
MAX_METADATA_KEY_CHARS = 64
MAX_METADATA_VALUE_CHARS = 512
MAX_FILENAME_CHARS = 255
MAX_IDEMPOTENCY_KEY_CHARS = 255

# OpenAI's bounds for expires_after and output_expires_after.
MIN_FILE_LIFETIME_S = 3_600
MAX_FILE_LIFETIME_S = 2_592_000

DEFAULT_WINDOW = "24h"
MAX_WINDOW_S = 14 * 86_400

# A chord never counts more than about this many tasks: publishing and counting stay under a second.
AUTO_TASKS_PER_BATCH = 1_000
