"""Small tools that know no feature: time, ids, secrets, files, tasks, fetching strangers' URLs, logs and metrics."""
