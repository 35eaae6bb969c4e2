"""What a Celery worker runs: `celery -A taxi_assets.worker worker -Q dagster`, with the settings of the code location.

DAGSTER_HOME must name an instance whose storage is shared (Postgres), and TAXI_HOME the folder that all workers share.
"""

from taxi_assets.executors import celery_app
from taxi_assets.settings import get_settings

app = celery_app(get_settings())
