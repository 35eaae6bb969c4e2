"""The application of a Celery worker: `celery -A taxi_assets.worker worker -Q dagster`, with the code location's settings.

DAGSTER_HOME must name an instance with shared storage (Postgres), and TAXI_HOME a folder that all workers share.
"""

from taxi_assets.executors import celery_app
from taxi_assets.settings import load_settings

app = celery_app(load_settings())
