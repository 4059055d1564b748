-- What reset commands of migration tools run leaves the ledger alone.
CREATE EXTENSION credyt_pg;
SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'credyt_pg';
SELECT count(*) FROM credyt.create_asset('credits');
SELECT count(*) FROM credyt.grant_credits('acme', 10);
CREATE TABLE users (id int);
SET client_min_messages = warning;
-- prisma migrate reset, and what is pasted from many an answer
DROP SCHEMA "public" CASCADE;
CREATE SCHEMA "public";
SELECT available FROM credyt.balance('acme');
-- TypeORM: dropSchema (its schemas: current_schema() and those of its entities)
CREATE TABLE users (id int);
SELECT 'DROP VIEW IF EXISTS "' || schemaname || '"."' || viewname || '" CASCADE;' AS query
FROM pg_views WHERE schemaname IN (current_schema()) AND viewname NOT IN ('geography_columns', 'geometry_columns', 'raster_columns', 'raster_overviews') \gexec
SELECT 'DROP TABLE IF EXISTS "' || schemaname || '"."' || tablename || '" CASCADE;' AS query
FROM pg_tables WHERE schemaname IN (current_schema()) AND tablename NOT IN ('spatial_ref_sys') \gexec
SELECT available FROM credyt.balance('acme');
-- Django: flush truncates the tables that it sees in the search_path
CREATE TABLE users (id int);
SELECT 'TRUNCATE ' || string_agg(quote_ident(c.relname), ', ') || ' RESTART IDENTITY CASCADE;' AS query
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v') AND n.nspname NOT IN ('pg_catalog', 'pg_toast') AND pg_table_is_visible(c.oid) \gexec
SELECT available FROM credyt.balance('acme');
-- Rails: db:schema:load
CREATE EXTENSION IF NOT EXISTS "credyt_pg" SCHEMA pg_catalog;
DROP TABLE IF EXISTS "users" CASCADE;
-- Laravel: migrate:fresh drops the tables, views and types of the search_path
CREATE TABLE users (id int);
SELECT 'DROP TABLE ' || string_agg(format('%I.%I', schemaname, tablename), ', ') || ' CASCADE' AS query
FROM pg_tables WHERE schemaname = ANY (current_schemas(false)) \gexec
-- drizzle: its journal
CREATE SCHEMA drizzle;
DROP SCHEMA drizzle CASCADE;
-- A role that owns the application's tables and is dropped with them
CREATE ROLE credyt_reset_app;
CREATE TABLE users (id int);
ALTER TABLE users OWNER TO credyt_reset_app;
SELECT spend FROM credyt.allow('credyt_reset_app', 'spend');
DROP OWNED BY credyt_reset_app CASCADE;
DROP ROLE credyt_reset_app;
SELECT available FROM credyt.balance('acme');
SELECT count(*) FROM credyt.verify();
