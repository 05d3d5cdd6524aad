PRAGMA application_id = 1685349681;
PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE call (  -- of jobs waiting and ended: calls that were handed out, or have ended
    job INTEGER NOT NULL,
    name TEXT NOT NULL,
    state TEXT,                 -- how it ended; NULL if it has not
    attempts INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    lease INTEGER NOT NULL,     -- of the worker that has it; 0 for none
    lease_s REAL NOT NULL,
    worker TEXT NOT NULL,
    started_at REAL,
    ended_at REAL,
    resumes_at REAL,
    value TEXT,                 -- JSON; a BLOB if it is not UTF-8
    error TEXT,
    PRIMARY KEY (job, name)
) WITHOUT ROWID;
INSERT INTO "call" VALUES(10,'fibonacci@1','succeeded',1,0,0,0,0.0,'worker-1',1.79598206115891170504e+09,1.79598206192602515224e+09,NULL,'832040',NULL);
INSERT INTO "call" VALUES(11,'call','succeeded',1,0,0,0,0.0,'worker-1',1.79598206116741681095e+09,1.79598206193669104576e+09,NULL,'"ß\u0000🙂"',NULL);
INSERT INTO "call" VALUES(12,'call','failed',1,1,0,0,0.0,'worker-1',1.7959820619571545124e+09,1.79598206197151350977e+09,NULL,NULL,'ValueError: n must be 0 or more, not -1');
INSERT INTO "call" VALUES(13,'call','timed_out',1,1,0,0,0.0,'worker-1',1.7959820619264943599e+09,1.79598206199670124049e+09,NULL,NULL,'stopped after 0.05 s');
INSERT INTO "call" VALUES(14,'a','succeeded',1,0,0,0,0.0,'worker-1',1.7959820619716956615e+09,1.79598206198606204992e+09,NULL,'[1,{"b":null}]',NULL);
INSERT INTO "call" VALUES(14,'b','succeeded',1,0,0,0,0.0,'worker-1',1.79598206198654603959e+09,1.79598206199460864061e+09,NULL,'[1,{"b":null},2.5]',NULL);
INSERT INTO "call" VALUES(14,'c','succeeded',1,0,0,0,0.0,'worker-1',1.79598206199688029292e+09,1.79598206201162719723e+09,NULL,'{"ref":"a"}',NULL);
INSERT INTO "call" VALUES(15,'anyway','succeeded',1,0,0,0,0.0,'worker-1',1.79598206201186823844e+09,1.79598206202662944797e+09,NULL,'1',NULL);
INSERT INTO "call" VALUES(15,'bad','failed',1,1,0,0,0.0,'worker-1',1.79598206199490022664e+09,1.79598206201162719723e+09,NULL,NULL,'ValueError: n must be 0 or more, not -1');
INSERT INTO "call" VALUES(15,'skipped','failed',0,0,0,0,0.0,'',NULL,1.79598206201162719723e+09,NULL,NULL,'skipped because ''bad'' failed: ValueError: n must be 0 or more, not -1');
INSERT INTO "call" VALUES(18,'task','succeeded',1,0,0,0,0.0,'worker-1',1.79598206199688029292e+09,1.79598206201162719723e+09,NULL,'"x"',NULL);
INSERT INTO "call" VALUES(19,'task','succeeded',1,0,0,0,0.0,'worker-1',1.79598206193683290485e+09,1.79598206194967746737e+09,NULL,'{"status":"completed","primes":[2,3,5,7,11,13,17,19],"computation_time":0.000021,"method":"sieve"}',NULL);
INSERT INTO "call" VALUES(20,'task','succeeded',1,0,0,0,0.0,'worker-1',1.7959820619498496055e+09,1.79598206195699453347e+09,NULL,'3',NULL);
INSERT INTO "call" VALUES(22,'failed','failed',1,1,0,0,0.0,'a worker that claims',1.79598206249378395077e+09,1.79598206250439143181e+09,NULL,NULL,'no');
INSERT INTO "call" VALUES(22,'paused',NULL,1,1,0,0,0.0,'a worker that claims',1.79598206249378395077e+09,NULL,3.79178763992607355108e+09,NULL,'not yet');
INSERT INTO "call" VALUES(22,'running',NULL,1,0,0,7820610000000032,3000000000.0,'a worker that claims',1.79598206249378395077e+09,NULL,NULL,NULL,NULL);
INSERT INTO "call" VALUES(22,'succeeded','succeeded',1,0,0,0,0.0,'a worker that claims',1.79598206249378395077e+09,1.7959820624957253933e+09,NULL,'{"is": "good"}',NULL);
INSERT INTO "call" VALUES(23,'call',NULL,1,0,0,7820610000000034,3000000000.0,'a worker that claims',1.79598206252400875086e+09,NULL,NULL,NULL,NULL);
INSERT INTO "call" VALUES(24,'call','cancelled',0,0,0,0,0.0,'',NULL,1.79598206253986215595e+09,NULL,NULL,'cancelled');
CREATE TABLE ended (
    sequence INTEGER PRIMARY KEY,  -- in the order of the ends
    number INTEGER NOT NULL UNIQUE,
    submitted_at REAL NOT NULL,
    started_at REAL,
    ended_at REAL NOT NULL,
    operations INTEGER NOT NULL,
    operations_done INTEGER NOT NULL,
    answer TEXT,                   -- as Python writes it: integers may be of any size
    error TEXT,
    task TEXT NOT NULL,
    state TEXT,                    -- NULL for arithmetic that succeeded or failed
    answer_json TEXT               -- an answer of calls; a BLOB if it is not UTF-8
);
INSERT INTO "ended" VALUES(1,2,1.79598206108881735805e+09,NULL,1.79598206108881735805e+09,0,0,'42',NULL,'42',NULL,NULL);
INSERT INTO "ended" VALUES(2,1,1.79598206108436250685e+09,1.79598206108731746669e+09,1.79598206109128427504e+09,4,4,'-2.5',NULL,'1+(2*3)/4-5',NULL,NULL);
INSERT INTO "ended" VALUES(3,3,1.79598206110090327265e+09,1.795982061103215456e+09,1.7959820611039180756e+09,1,1,'0.30000000000000004',NULL,'0.1+0.2',NULL,NULL);
INSERT INTO "ended" VALUES(4,4,1.79598206110448193554e+09,1.79598206111107778549e+09,1.7959820611118774414e+09,2,2,'-0.0',NULL,'0*(0-1.5)',NULL,NULL);
INSERT INTO "ended" VALUES(5,5,1.79598206111346459391e+09,1.79598206112343239783e+09,1.79598206112429571151e+09,1,1,'99999999999999999999999999999999999999980000000000000000000000000000000000000001',NULL,'(9999999999999999999999999999999999999999)*(9999999999999999999999999999999999999999)',NULL,NULL);
INSERT INTO "ended" VALUES(6,6,1.79598206112494039534e+09,1.79598206112650418285e+09,1.79598206112699508669e+09,1,0,NULL,'division by zero: 1 / 0','1/0',NULL,NULL);
INSERT INTO "ended" VALUES(7,7,1.79598206112814688683e+09,1.79598206113523578639e+09,1.7959820611357605458e+09,1,0,NULL,'overflow, the result is not a finite number: 1e+308 * 10','1e308*10',NULL,NULL);
INSERT INTO "ended" VALUES(8,8,1.79598206113683557505e+09,1795982061.14356,1.79598206114435029025e+09,2,2,'1.5',NULL,'2
×	3 ÷ 4',NULL,NULL);
INSERT INTO "ended" VALUES(9,9,1.79598206114694714549e+09,1.79598206115543437009e+09,1.79598206115586686137e+09,1,1,'12',NULL,'3*<16382 blanks>…',NULL,NULL);
INSERT INTO "ended" VALUES(10,17,1.79598206119866776473e+09,1.7959820612070627212e+09,1.79598206121323418615e+09,1,0,NULL,'division by zero: 1 / 0','1/0',NULL,NULL);
INSERT INTO "ended" VALUES(11,16,1.79598206119866776473e+09,1.7959820612070627212e+09,1.79598206121323418615e+09,1,1,'6',NULL,'2*3',NULL,NULL);
INSERT INTO "ended" VALUES(12,10,1.79598206115782427789e+09,1.79598206115891170504e+09,1.79598206192713880533e+09,3,3,'832046',NULL,'fibonacci(30) + 2*3','succeeded',NULL);
INSERT INTO "ended" VALUES(13,11,1.79598206116396403317e+09,1.79598206116741681095e+09,1.79598206193669104576e+09,1,1,NULL,NULL,'echo("\u00df\u0000\ud83d\ude42")','succeeded','"ß\u0000🙂"');
INSERT INTO "ended" VALUES(14,19,1.79598206123197984699e+09,1.79598206194735884669e+09,1.79598206194967746737e+09,1,1,NULL,NULL,'compute(limit=20)','succeeded','{"status":"completed","primes":[2,3,5,7,11,13,17,19],"computation_time":0.000021,"method":"sieve"}');
INSERT INTO "ended" VALUES(15,20,1.7959820612597925663e+09,1.7959820619498496055e+09,1.79598206195699453347e+09,1,1,NULL,NULL,'process_data(1,2)','succeeded','3');
INSERT INTO "ended" VALUES(16,12,1.79598206116837191574e+09,1.7959820619571545124e+09,1.79598206197151350977e+09,1,1,NULL,'ValueError: n must be 0 or more, not -1','fibonacci(-1)','failed',NULL);
INSERT INTO "ended" VALUES(17,13,1.79598206117023348809e+09,1.79598206193566441537e+09,1.79598206199670124049e+09,1,1,NULL,'stopped after 0.05 s','sleep(60)','timed_out',NULL);
INSERT INTO "ended" VALUES(18,14,1.79598206118814492223e+09,1.7959820619716956615e+09,1.79598206201162719723e+09,3,3,NULL,NULL,'3 calls: echo, process_data','succeeded','[1,{"b":null},2.5]');
INSERT INTO "ended" VALUES(19,18,1.79598206121188139908e+09,1.79598206199688029292e+09,1.79598206201162719723e+09,1,1,NULL,NULL,'echo("x")','succeeded','"x"');
INSERT INTO "ended" VALUES(20,15,1.7959820611913893223e+09,1.79598206199490022664e+09,1.79598206202662944797e+09,3,3,NULL,'node ''bad'': ValueError: n must be 0 or more, not -1','3 calls: fibonacci, echo','failed',NULL);
INSERT INTO "ended" VALUES(21,21,1.79598206204804515841e+09,1.79598206205535030361e+09,1795982062.05592,1,0,NULL,'division by zero: 1 / 0','1/0','failed',NULL);
INSERT INTO "ended" VALUES(22,24,1.79598206253594541549e+09,NULL,1.79598206253986215595e+09,1,1,NULL,'cancelled','later()','cancelled',NULL);
CREATE TABLE master (
    boot INTEGER NOT NULL,     -- the number of the last start with this file
    last_job INTEGER NOT NULL  -- the highest number of a job that has been deleted
);
INSERT INTO "master" VALUES(782061,0);
CREATE TABLE notice (  -- webhooks of ended jobs that nobody has taken yet
    number INTEGER PRIMARY KEY,
    url TEXT NOT NULL,
    since REAL NOT NULL
);
INSERT INTO "notice" VALUES(12,'http://127.0.0.1:2/ended',1.79598206197151350977e+09);
INSERT INTO "notice" VALUES(14,'http://127.0.0.1:2/ended',1.79598206201162719723e+09);
CREATE TABLE plan (  -- of jobs that are more than formulas, waiting and ended
    number INTEGER PRIMARY KEY,
    text TEXT NOT NULL
);
INSERT INTO "plan" VALUES(11,'{"graph":{"call":{"handler":"echo","args":["\u00df\u0000\ud83d\ude42"],"delay":0.0}},"priority":3}');
INSERT INTO "plan" VALUES(12,'{"graph":{"call":{"handler":"fibonacci","args":[-1],"delay":0.0}},"notify":"http://127.0.0.1:2/ended"}');
INSERT INTO "plan" VALUES(13,'{"graph":{"call":{"handler":"sleep","args":[60],"timeout":0.05,"delay":0.0}}}');
INSERT INTO "plan" VALUES(14,'{"graph":{"a":{"handler":"echo","args":[[1, {"b": null}]]},"b":{"handler":"process_data","args":[{"ref": "a"}, [2.5]]},"c":{"handler":"echo","args":[{"literal": {"ref": "a"}}],"after":["b"]}},"answer":"b","notify":"http://127.0.0.1:2/ended"}');
INSERT INTO "plan" VALUES(15,'{"graph":{"bad":{"handler":"fibonacci","args":[-1]},"skipped":{"handler":"echo","args":[{"ref": "bad"}]},"anyway":{"handler":"echo","args":[1],"after":["bad"],"when":"done"}}}');
INSERT INTO "plan" VALUES(18,'{"graph":{"task":{"handler":"echo","args":["x"]}},"about":{"dialect":"rest","id":"mine","name":"n","args":"eA==","metadata":{},"dependencies":[]}}');
INSERT INTO "plan" VALUES(19,'{"graph":{"task":{"handler":"compute","args":{"limit":20},"retries":0,"lost_max":5}},"about":{"dialect":"queue"}}');
INSERT INTO "plan" VALUES(20,'{"graph":{"task":{"handler":"process_data","args":[1,2],"retries":2,"lost_max":3}},"about":{"dialect":"scheduler"}}');
INSERT INTO "plan" VALUES(21,'{"formula":"1/0","retry_of":17}');
INSERT INTO "plan" VALUES(22,'{"graph":{"succeeded":{"handler":"claimed","args":["good"]},"failed":{"handler":"claimed","args":["bad"]},"skipped":{"handler":"later","args":[{"ref": "failed"}]},"running":{"handler":"claimed","args":["held"],"timeout":60.0},"paused":{"handler":"claimed","args":["again"],"retries":3},"waiting":{"handler":"later","args":[[{"ref": "succeeded"}, {"ref": "running"}]]},"ready":{"handler":"later","args":[{"ref": "succeeded"}],"priority":2},"delayed":{"handler":"later","args":[],"not_before":"2121-01-01T00:00:00Z"}},"priority":1}');
INSERT INTO "plan" VALUES(23,'{"graph":{"call":{"handler":"claimed","args":["cancelled"],"delay":0.0}},"notify":"http://127.0.0.1:2/ended"}');
INSERT INTO "plan" VALUES(24,'{"graph":{"call":{"handler":"later","args":[],"delay":0.0}}}');
INSERT INTO "plan" VALUES(28,'{"formula":"later(1) + 2*3"}');
INSERT INTO "plan" VALUES(29,'{"graph":{"call":{"handler":"later","args":[1],"delay":0.0}}}');
INSERT INTO "plan" VALUES(30,'{"graph":{"call":{"handler":"later","args":[2],"delay":0.0}}}');
INSERT INTO "plan" VALUES(31,'{"graph":{"call":{"handler":"later","args":["after"],"delay":0.0}},"after":[22,23],"when":"done","notify":"http://127.0.0.1:2/ended"}');
INSERT INTO "plan" VALUES(32,'{"graph":{"task":{"handler":"later","args":[]}},"about":{"dialect":"rest","id":"waits","name":"n","args":null,"metadata":{},"dependencies":[]}}');
INSERT INTO "plan" VALUES(33,'{"graph":{"task":{"handler":"process_data","args":[4,5],"retries":2,"lost_max":3}},"about":{"dialect":"scheduler"}}');
CREATE TABLE submission (
    sequence INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,
    first INTEGER NOT NULL,  -- its jobs are numbered from this
    count INTEGER NOT NULL,
    submitted_at REAL NOT NULL
);
INSERT INTO "submission" VALUES(1,'ended','3e827b3f4bb5d5f97c0e23ef5afd6aa3',16,2,1.79598206119866776473e+09);
INSERT INTO "submission" VALUES(2,'id
mine','ab04f0fe2a928131fee838796b8b0b41',18,1,1.79598206121188139908e+09);
INSERT INTO "submission" VALUES(3,'states','74c004879930646703ae424b4d08154b',22,1,1.79598206249159812923e+09);
INSERT INTO "submission" VALUES(4,'waiting','ff69d1ffbb862ea4f8195c9b1dbaaee7',25,1,1.79598206254772734639e+09);
INSERT INTO "submission" VALUES(5,'id
waits','f3fce5b3111017f778d3a17421d409a7',32,1,1.79598206257613253597e+09);
CREATE TABLE waiting (
    number INTEGER PRIMARY KEY,
    submitted_at REAL NOT NULL,  -- this and the other times: seconds since 1970
    operations INTEGER NOT NULL,
    task TEXT NOT NULL,
    formula TEXT,                -- the whole formula, where task is only its beginning
    cancelled_at REAL            -- when its cancelling began
);
INSERT INTO "waiting" VALUES(22,1.79598206249159812923e+09,8,'8 calls: claimed, later',NULL,NULL);
INSERT INTO "waiting" VALUES(23,1.79598206251609683039e+09,1,'claimed("cancelled")',NULL,1.79598206252808880803e+09);
INSERT INTO "waiting" VALUES(25,1.79598206254772734639e+09,4,'(1+2)*(3+4)/5',NULL,NULL);
INSERT INTO "waiting" VALUES(26,1.79598206255313754082e+09,1,'6*7',NULL,NULL);
INSERT INTO "waiting" VALUES(27,1.79598206255313754082e+09,1,'1<16383 blanks>…','1<16400 blanks>+2',NULL);
INSERT INTO "waiting" VALUES(28,1.7959820625641560554e+09,3,'later(1) + 2*3',NULL,NULL);
INSERT INTO "waiting" VALUES(29,1.79598206256804156298e+09,1,'later(1)',NULL,NULL);
INSERT INTO "waiting" VALUES(30,1.79598206256804156298e+09,1,'later(2)',NULL,NULL);
INSERT INTO "waiting" VALUES(31,1.79598206257195067408e+09,1,'later("after")',NULL,NULL);
INSERT INTO "waiting" VALUES(32,1.79598206257613253597e+09,1,'later()',NULL,NULL);
INSERT INTO "waiting" VALUES(33,1.79598206257991313931e+09,1,'process_data(4,5)',NULL,NULL);
CREATE TABLE worker (  -- that do not announce themselves again
    address TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    slots INTEGER NOT NULL,
    batch_max INTEGER NOT NULL,
    announced_at REAL NOT NULL,
    said TEXT  -- the announcement as JSON; NULL before version 2
);
INSERT INTO "worker" VALUES('127.0.0.1:1','says it once',1,1,1.79598206258404374116e+09,'{"name":"says it once","address":"127.0.0.1:1","slots":1,"batch_max":1,"incarnation":"","draining":false,"handlers":{},"handler_slots":0,"arithmetic":true,"reach":"push","obeys":true,"lease_s":null,"dead_after_s":null}');
INSERT INTO "worker" VALUES('127.0.0.1:3','with handlers',1,1,1.79598206258755373958e+09,'{"name":"with handlers","address":"127.0.0.1:3","slots":1,"batch_max":1,"incarnation":"","draining":false,"handlers":{"x":{"timeout_s":null,"retries":2,"pure":false}},"handler_slots":3,"arithmetic":false,"reach":"push","obeys":true,"lease_s":null,"dead_after_s":null}');
INSERT INTO "worker" VALUES('pull:looks','looks',1,1,1.7959820625962116718e+09,'{"name":"looks","address":"","slots":1,"batch_max":1,"incarnation":"33ab3429679e2ec1","draining":false,"handlers":{"looked_for":{"timeout_s":null,"retries":0,"pure":false}},"handler_slots":2,"arithmetic":false,"reach":"look","obeys":false,"lease_s":30.0,"dead_after_s":30.0}');
CREATE TRIGGER ended_deleted AFTER DELETE ON ended BEGIN
    DELETE FROM plan WHERE number = OLD.number;
    DELETE FROM call WHERE job = OLD.number;
    DELETE FROM notice WHERE number = OLD.number;
END;
COMMIT;
