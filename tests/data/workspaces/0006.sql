BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0006');
CREATE TABLE annotation (
	id INTEGER NOT NULL, 
	scene_id INTEGER NOT NULL, 
	x1 DOUBLE NOT NULL, 
	y1 DOUBLE NOT NULL, 
	x2 DOUBLE NOT NULL, 
	y2 DOUBLE NOT NULL, 
	label INTEGER NOT NULL, 
	source VARCHAR(64) NOT NULL, 
	annotator VARCHAR(128), 
	seconds DOUBLE, 
	version INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	created FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(scene_id) REFERENCES scene (id)
);
CREATE TABLE forgotten_id (
	name VARCHAR(16) NOT NULL, 
	highest INTEGER NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "forgotten_id" VALUES('tile',7);
CREATE TABLE job_progress (
	job_id VARCHAR(128) NOT NULL, 
	done INTEGER NOT NULL, 
	total INTEGER NOT NULL, 
	message VARCHAR(512) NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (job_id)
);
INSERT INTO "job_progress" VALUES('job',1,2,'at work',2.0);
CREATE TABLE label_set (
	id INTEGER NOT NULL, 
	names JSON NOT NULL, 
	fingerprint VARCHAR(16) NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "label_set" VALUES(1,'["car", "ship"]','0123456789abcdef');
CREATE TABLE ledger (
	id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	details JSON NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "ledger" VALUES(1,1.0,'ingest','{"tiles": 1}');
CREATE TABLE model (
	id INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	stage VARCHAR(16) NOT NULL, 
	parent_id INTEGER, 
	config JSON NOT NULL, 
	label_set_fingerprint VARCHAR(16), 
	data_hash VARCHAR(64) NOT NULL, 
	metrics JSON NOT NULL, 
	created FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(parent_id) REFERENCES model (id), 
	UNIQUE (name)
);
CREATE TABLE prediction_set (
	id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	tiles INTEGER NOT NULL, 
	created FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(model_id) REFERENCES model (id), 
	UNIQUE (name)
);
CREATE TABLE remote_project (
	id INTEGER NOT NULL, 
	server VARCHAR(512) NOT NULL, 
	remote_id VARCHAR(64) NOT NULL, 
	title VARCHAR(256) NOT NULL, 
	label_config VARCHAR NOT NULL, 
	label_set_fingerprint VARCHAR(16) NOT NULL, 
	cursor_at VARCHAR(64) NOT NULL, 
	cursor_id INTEGER NOT NULL, 
	created FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (server, remote_id)
);
CREATE TABLE remote_task (
	id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	tile_id INTEGER NOT NULL, 
	round_id INTEGER, 
	remote_id VARCHAR(64) NOT NULL, 
	content_hash VARCHAR(64) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	applied_hash VARCHAR(64), 
	applied_at VARCHAR(64), 
	created FLOAT NOT NULL, shown JSON, 
	PRIMARY KEY (id), 
	FOREIGN KEY(project_id) REFERENCES remote_project (id), 
	FOREIGN KEY(round_id) REFERENCES round (id), 
	FOREIGN KEY(tile_id) REFERENCES tile (id), 
	UNIQUE (project_id, remote_id), 
	UNIQUE (project_id, tile_id)
);
CREATE TABLE review (
	id INTEGER NOT NULL, 
	tile_id INTEGER NOT NULL, 
	"by" VARCHAR(128) NOT NULL, 
	seconds DOUBLE, 
	created FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(tile_id) REFERENCES tile (id), 
	UNIQUE (tile_id)
);
CREATE TABLE round (
	id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	budget_seconds DOUBLE NOT NULL, 
	strategy VARCHAR(32) NOT NULL, 
	seed INTEGER NOT NULL, 
	prediction_set_id INTEGER, 
	state VARCHAR(16) NOT NULL, 
	estimated_seconds DOUBLE NOT NULL, 
	measured_seconds DOUBLE, 
	metrics JSON NOT NULL, 
	created FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(prediction_set_id) REFERENCES prediction_set (id), 
	UNIQUE (number)
);
CREATE TABLE round_tile (
	round_id INTEGER NOT NULL, 
	tile_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	score DOUBLE NOT NULL, 
	estimated_seconds DOUBLE NOT NULL, 
	measured_seconds DOUBLE, 
	reasons JSON NOT NULL, 
	PRIMARY KEY (round_id, tile_id), 
	FOREIGN KEY(round_id) REFERENCES round (id), 
	FOREIGN KEY(tile_id) REFERENCES tile (id)
);
CREATE TABLE scene (
	id INTEGER NOT NULL, 
	source_id INTEGER NOT NULL, 
	name VARCHAR(1024) NOT NULL, 
	content_hash VARCHAR(64) NOT NULL, 
	path VARCHAR(4096) NOT NULL, 
	referenced BOOLEAN NOT NULL, 
	width INTEGER NOT NULL, 
	height INTEGER NOT NULL, 
	bands INTEGER NOT NULL, 
	dtype VARCHAR(16) NOT NULL, 
	crs_wkt VARCHAR, 
	transform JSON, 
	ground_sample_distance DOUBLE, 
	captured VARCHAR(64), 
	split VARCHAR(8), 
	ground_x1 DOUBLE, 
	ground_y1 DOUBLE, 
	ground_x2 DOUBLE, 
	ground_y2 DOUBLE, 
	PRIMARY KEY (id), 
	FOREIGN KEY(source_id) REFERENCES source (id), 
	UNIQUE (content_hash)
);
CREATE TABLE scene_alias (
	id INTEGER NOT NULL, 
	scene_id INTEGER NOT NULL, 
	source_id INTEGER NOT NULL, 
	name VARCHAR(1024) NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(scene_id) REFERENCES scene (id), 
	FOREIGN KEY(source_id) REFERENCES source (id), 
	UNIQUE (source_id, name)
);
CREATE TABLE search (
	id INTEGER NOT NULL, 
	tile_id INTEGER NOT NULL, 
	x1_tile DOUBLE NOT NULL, 
	y1_tile DOUBLE NOT NULL, 
	x2_tile DOUBLE NOT NULL, 
	y2_tile DOUBLE NOT NULL, 
	model_id INTEGER NOT NULL, 
	config JSON NOT NULL, 
	fingerprint VARCHAR(64) NOT NULL, 
	created FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(model_id) REFERENCES model (id), 
	FOREIGN KEY(tile_id) REFERENCES tile (id), 
	UNIQUE (fingerprint)
);
CREATE TABLE search_hit (
	id INTEGER NOT NULL, 
	search_id INTEGER NOT NULL, 
	tile_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	score DOUBLE NOT NULL, 
	x1_tile DOUBLE NOT NULL, 
	y1_tile DOUBLE NOT NULL, 
	x2_tile DOUBLE NOT NULL, 
	y2_tile DOUBLE NOT NULL, 
	decision VARCHAR(8), 
	annotation_id INTEGER, 
	PRIMARY KEY (id), 
	FOREIGN KEY(annotation_id) REFERENCES annotation (id), 
	FOREIGN KEY(search_id) REFERENCES search (id), 
	FOREIGN KEY(tile_id) REFERENCES tile (id), 
	UNIQUE (search_id, position)
);
CREATE TABLE set_aside (
	id INTEGER NOT NULL, 
	source_id INTEGER NOT NULL, 
	name VARCHAR(1024) NOT NULL, 
	reason VARCHAR NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(source_id) REFERENCES source (id), 
	UNIQUE (source_id, name)
);
CREATE TABLE source (
	id INTEGER NOT NULL, 
	name VARCHAR(512) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	identity VARCHAR(512) NOT NULL, 
	config JSON NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	created FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (identity)
);
INSERT INTO "source" VALUES(1,'flight.zip','zip','abc','{}','done',1.0);
CREATE TABLE split_rule (
	id INTEGER NOT NULL, 
	config JSON NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE tile (
	id INTEGER NOT NULL, 
	scene_id INTEGER NOT NULL, 
	x INTEGER NOT NULL, 
	y INTEGER NOT NULL, 
	width INTEGER NOT NULL, 
	height INTEGER NOT NULL, 
	content_hash VARCHAR(64) NOT NULL, 
	split VARCHAR(8) NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(scene_id) REFERENCES scene (id), 
	UNIQUE (scene_id, x, y, width, height)
);
CREATE TABLE user_account (
	name VARCHAR(128) NOT NULL, 
	password_hash VARCHAR(512) NOT NULL, 
	created FLOAT NOT NULL, role VARCHAR(16) DEFAULT 'engineer' NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "user_account" VALUES('anna','scrypt$16$8$1$AAAA$AAAA',2.0,'engineer');
INSERT INTO "user_account" VALUES('berta','scrypt$16$8$1$AAAA$AAAA',4.0,'annotator');
CREATE TABLE worker_heartbeat (
	id INTEGER NOT NULL, 
	pid INTEGER NOT NULL, 
	host VARCHAR(256) NOT NULL, 
	since FLOAT NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX scene_by_ground ON scene (ground_x1, ground_x2);
CREATE INDEX ix_set_aside_source_id ON set_aside (source_id);
CREATE INDEX ix_scene_alias_scene_id ON scene_alias (scene_id);
CREATE INDEX ix_tile_content_hash ON tile (content_hash);
CREATE INDEX ix_tile_scene_id ON tile (scene_id);
CREATE INDEX ix_tile_split ON tile (split);
CREATE INDEX ix_remote_task_tile_id ON remote_task (tile_id);
CREATE INDEX annotation_by_place ON annotation (scene_id, state, y1);
COMMIT;
