"""The names inside a session's folder. docs/store-format.md explains them.

reports/<session_id>/session.json
reports/<session_id>/attachments/<name>
reports/<session_id>/runs/<run_id>/{run.json, series.parquet, log.txt}
"""

SESSION_FILE = "session.json"
RUNS_FOLDER = "runs"
ATTACHMENTS_FOLDER = "attachments"
RUN_FILE = "run.json"
SERIES_FILE = "series.parquet"
LOG_FILE = "log.txt"
INDEX_FILE = "index.sqlite"
LATEST_LINK = "latest"
