-- Prefect and MLflow both keep alembic's version table: each has a database of its own.
CREATE DATABASE prefect;
CREATE DATABASE mlflow;
\connect prefect
CREATE EXTENSION IF NOT EXISTS pg_trgm;
