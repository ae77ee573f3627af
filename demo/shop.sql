/*
 * shop.sql: the definitions of the demo.  psql variables: bootstrap, orders_topic,
 * customers_topic.  This is all the SQL there is: nothing else keeps the tables.
 */
CREATE EXTENSION kstream;
CREATE SERVER kafka FOREIGN DATA WRAPPER kstream OPTIONS (bootstrap_servers :'bootstrap');

/* A stream over a topic, and a table that follows one: the last record of a key is its row. */
SELECT kstream.create_stream('orders', 'id bigint, customer text, amount numeric(10,2), items int',
	topic => :'orders_topic', server => 'kafka', key => 'customer');
SELECT kstream.create_table('customers', 'customer text PRIMARY KEY, name text, country text, tier text',
	topic => :'customers_topic', server => 'kafka');

/* A table of our own, as any database has them. */
CREATE TABLE vat (country text PRIMARY KEY, rate numeric NOT NULL);
INSERT INTO vat VALUES ('DE', 0.19), ('FR', 0.20), ('IT', 0.22), ('ES', 0.21),
	('PL', 0.23), ('NL', 0.21), ('SE', 0.25), ('PT', 0.23);

/* Totals of each customer. */
SELECT kstream.create_table_as('per_customer',
	'SELECT customer, count(*) AS orders, sum(amount) AS revenue, max(amount) AS biggest
	   FROM orders GROUP BY customer');

/* Revenue of each country, which the orders do not know: joined with customers. */
SELECT kstream.create_table_as('revenue',
	'SELECT coalesce(c.country, ''??'') AS country, count(*) AS orders, sum(o.amount) AS revenue, avg(o.amount) AS average
	   FROM orders o LEFT JOIN customers c USING (customer) GROUP BY 1');

/* Every order with what is known about it, appended to a table. */
SELECT kstream.create_table_as('enriched',
	'SELECT o.id, o.customer, c.name, c.tier, c.country, o.amount, round(o.amount / o.items, 2) AS per_item,
	        round(o.amount * v.rate, 2) AS vat
	   FROM orders o LEFT JOIN customers c USING (customer) LEFT JOIN vat v ON v.country = c.country');

/* Results are ordinary tables. */
CREATE INDEX ON enriched (id);
CREATE INDEX ON per_customer (revenue DESC);
CREATE VIEW top_customers AS
	SELECT p.customer, coalesce(c.name, '(not known)') AS name, c.country, c.tier, p.orders, p.revenue
	  FROM per_customer p LEFT JOIN customers c USING (customer)
	 ORDER BY p.revenue DESC LIMIT 8;
