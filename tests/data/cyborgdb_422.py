"""Records what FastAPI and pydantic say to bad bodies: prints cyborgdb_422.jsonl.

The models are CyborgDB 0.18's, written from its OpenAPI description. Run with fastapi 0.165 and pydantic 2.14:
    pip install fastapi==0.165 httpx && python cyborgdb_422.py > cyborgdb_422.jsonl
A line holds path, content type, body, and the 422's detail, or null where the body is good.
"""
import json
from typing import Any, Dict, List, Literal, Optional, Union
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
app=FastAPI()
class Policy(BaseModel):
    model_config=ConfigDict(extra='forbid')
    filterable:bool=True
    pattern:bool=False
    full_text:bool=False
class IOR(BaseModel):
    index_name:str
    index_key:Optional[str]=None
class Create(BaseModel):
    index_name:str
    kms_name:Optional[str]=None
    index_key:Optional[str]=None
    dimension:Optional[int]=None
    embedding_model:Optional[str]=None
    metric:Optional[str]=None
    storage_precision:Optional[Literal['float32','float16','tq12','tq8','tq6','tq4']]=None
    metadata_schema:Optional[Dict[str,Policy]]=None
    text_fields:Optional[List[str]]=None
    bm25_k1:Optional[float]=None
    bm25_b:Optional[float]=None
class Train(IOR):
    n_lists:Optional[int]=None
    batch_size:Optional[int]=None
    max_iters:Optional[int]=None
    tolerance:Optional[float]=None
    max_memory:Optional[int]=None
class Item(BaseModel):
    id:str
    vector:Optional[List[float]]=None
    contents:Optional[Union[str,bytes]]=None
    metadata:Optional[Dict[str,Any]]=None
class Upsert(IOR):
    items:List[Item]
class BVB(BaseModel):
    ids:List[str]
    vectors_b64:str
    dimension:int
    metadata:Optional[List[Optional[Dict[str,Any]]]]=None
    contents:Optional[List[Optional[Union[str,bytes]]]]=None
class BUpsert(IOR):
    batch:BVB
class TextFilter(BaseModel):
    text:Optional[str]=None
    text_fields:Optional[List[str]]=None
    text_field_weights:Optional[List[float]]=None
    require_all_terms:Optional[bool]=None
class Hybrid(TextFilter):
    alpha:Optional[float]=None
    rrf_k:Optional[float]=None
    window_mult:Optional[int]=None
class QueryRequest(IOR,Hybrid):
    query_vectors:Optional[List[float]]=None
    query_contents:Optional[str]=None
    top_k:Optional[int]=None
    n_probes:Optional[int]=None
    rerank_mult:Optional[int]=None
    greedy:Optional[bool]=None
    filters:Optional[Dict[str,Any]]={}
    include:List[str]=[]
class BatchQueryRequest(IOR,Hybrid):
    query_vectors:List[List[float]]
    top_k:Optional[int]=None
    n_probes:Optional[int]=None
    rerank_mult:Optional[int]=None
    greedy:Optional[bool]=None
    filters:Optional[Dict[str,Any]]={}
    include:List[str]=[]
class BQB(BaseModel):
    vectors_b64:str
    dimension:int
class BQuery(IOR,Hybrid):
    batch:BQB
    top_k:Optional[int]=None
    n_probes:Optional[int]=None
    rerank_mult:Optional[int]=None
    greedy:Optional[bool]=None
    filters:Optional[Dict[str,Any]]={}
    include:List[str]=[]
class QM(IOR,TextFilter):
    filters:Optional[Dict[str,Any]]={}
    top_k:Optional[int]=None
    order_by:Optional[Union[str,Dict[str,int]]]=None
    ascending:bool=True
class Get(IOR):
    ids:List[str]
    include:List[str]=["vector","contents","metadata"]
class Delete(IOR):
    ids:List[str]
class CU(BaseModel):
    permissions:List[str]
    index_key:Optional[str]=None
def ok(r): return {"ok":True}
R={'/v1/indexes/create':Create,'/v1/indexes/describe':IOR,'/v1/indexes/delete':IOR,'/v1/indexes/train':Train,'/v1/vectors/upsert':Upsert,'/v1/vectors/upsert_binary':BUpsert,'/v1/vectors/query_binary':BQuery,'/v1/vectors/query_metadata':QM,'/v1/vectors/get':Get,'/v1/vectors/delete':Delete,'/v1/indexes/a/users':CU}
for p,m in R.items():
    def mk(m):
        def f(r): return {"ok":True}
        f.__annotations__={'r':m}
        return f
    app.post(p)(mk(m))
@app.post('/v1/vectors/query')
def q(r:Union[QueryRequest,BatchQueryRequest]): return {"ok":True}
from fastapi.testclient import TestClient
c=TestClient(app)
cases=[]
J='application/json'
def t(p,b,ct=J):
    p='/v1/'+p
    try: r=c.post(p,content=b.encode(),headers={'content-type':ct})
    except Exception as e: raise SystemExit(f'{p} {b}: {e}')
    d=r.json(); cases.append({"path":p,"content_type":ct,"body":b,"detail":d.get("detail") if r.status_code==422 else None})
C='indexes/create'
for v in ['"8"','"8.0"','8.0','8.5','true','[]','{}','" 8_0 "','"8.5"','"x"','""','null','"+3"','"-3"','"1e3"','"_1"','"1__0"','"0x10"','1e3','9223372036854775808','"99999999999999999999"']:
    t(C,'{"index_name":"a","dimension":%s}'%v)
for v in ['"x"','[]','{}','true','"1e3"','" nan "','"inf"','"-Infinity"','""','null','1','"1_0"']:
    t(C,'{"index_name":"a","bm25_b":%s,"bm25_k1":%s}'%(v,v))
for v in ['"z"','[]','2','"ON"','1.0','0','null','"tRue"','"y"','"oui"','{}','true']:
    t(C,'{"index_name":"a","metadata_schema":{"x":{"pattern":%s}}}'%v)
t(C,'{"index_name":"a","metadata_schema":{"x":1,"y":null,"z":[],"w":{"foo":1,"bar":{"a":[]}}}}')
t(C,'{"index_name":"a","metadata_schema":[]}')
t(C,'{"index_name":"a","text_fields":"x"}'); t(C,'{"index_name":"a","text_fields":["x",1,null]}')
for v in ['"int8"','5','null','"FLOAT32"','[]']: t(C,'{"index_name":"a","storage_precision":%s}'%v)
t(C,'{"index_name":null}'); t(C,'{}'); t(C,'{"index_name":5,"metric":1,"kms_name":[],"embedding_model":{}}')
for b in ['"x"','5','null','[]','[1]','','{','  ','{} x','\ufeff{}','{"index_name":"a","x":1,}']: t(C,b)
t(C,'{"a":1}','text/plain'); t(C,'','text/plain'); t(C,'{"a":1}','application/vnd.api+json'); t(C,'{"a":1}','application/json; charset=utf-8'); t(C,'{"a":1}','application/x-www-form-urlencoded')
T='indexes/train'
t(T,'{"index_name":"a","n_lists":"x","batch_size":1.5,"max_iters":[],"tolerance":"t","max_memory":{}}')
t(T,'{"index_name":"a","n_lists":"8","tolerance":"1e-6"}')
Q='vectors/query_metadata'
for v in ['5','{"x":"y","z":1.5}','{"x":"1"}','[]','"x"','null','{"x":null}','{}']: t(Q,'{"index_name":"a","order_by":%s}'%v)
t(Q,'{"index_name":"a","ascending":null}'); t(Q,'{"ascending":5,"text":5,"text_fields":"x","text_field_weights":["a",1],"require_all_terms":"q","filters":[],"top_k":{}}')
t(Q,'{"index_name":"a","filters":null,"text":null,"top_k":null}')
U='vectors/upsert'
t(U,'{"index_name":"a"}'); t(U,'{"index_name":"a","items":{}}'); t(U,'{"index_name":"a","items":null}'); t(U,'{"index_name":"a","items":[]}')
t(U,'{"index_name":"a","items":[1,null,[],{"id":1,"vector":"x","contents":[],"metadata":5},{"id":"x","vector":["1",null,"q",[],true,{}]},{"vector":[1]}]}')
t(U,'{"index_name":"a","items":[{"id":"x","vector":[1,"2",true, 3e0 ],"contents":null,"metadata":null,"extra":1}]}')
B='vectors/upsert_binary'
t(B,'{"index_name":"a"}'); t(B,'{"index_name":"a","batch":[]}'); t(B,'{"index_name":"a","batch":null}')
t(B,'{"index_name":"a","batch":{"ids":5,"vectors_b64":1,"metadata":[1,null,{}],"contents":[1,null,"x",{}]}}')
t(B,'{"index_name":"a","batch":{"ids":["a",2],"vectors_b64":"","dimension":"4","metadata":{},"contents":"x"}}')
V='vectors/query'
for b in ['{"index_name":"a","query_vectors":[[1],["x"]]}','{"index_name":"a","query_vectors":"x"}','{"query_vectors":[]}','[]','null','{"index_name":"a","query_vectors":[1,2],"greedy":"x","top_k":1.5,"n_probes":"x","rerank_mult":[]}',
 '{"index_name":5,"text":1,"query_vectors":[1]}','{"index_name":"a","query_vectors":[[1]],"query_contents":5}','{"index_name":"a","query_vectors":[1],"include":null}','{"index_name":"a","query_vectors":[1],"filters":"{}"}',
 '{"index_name":"a","query_vectors":[[1],2]}','{"index_name":"a","query_vectors":[1,[2]]}','{"index_name":"a","query_vectors":["1"]}','{"index_name":"a","query_vectors":[["1"],[true]]}','{"index_name":"a","query_vectors":[null]}','{"index_name":"a","query_vectors":[[]]}',
 '{"index_name":"a","query_vectors":[1],"alpha":"x","rrf_k":[],"window_mult":1.5,"require_all_terms":7,"text_field_weights":{},"text_fields":[1]}','{"index_name":"a","query_contents":5}','{"index_name":"a","query_vectors":null,"query_contents":null,"top_k":null,"filters":null}','{"index_name":"a","query_vectors":{}}']: t(V,b)
t('vectors/query_binary','{"index_name":"a","batch":{"dimension":4},"top_k":"x","filters":5,"include":[1]}')
t('vectors/query_binary','{"index_name":"a","batch":5}'); t('vectors/query_binary','{}')
t('vectors/get','{"index_name":"a","ids":null,"include":"x"}'); t('vectors/get','{"index_name":"a","ids":[1,"x"],"include":[null]}'); t('vectors/get','{"index_name":"a","ids":[],"include":null}')
t('vectors/delete','{"index_name":"a","ids":{}}'); t('vectors/delete','{"ids":["x"]}')
t('indexes/describe','{"index_name":["a"]}'); t('indexes/delete','{"index_name":true}')
t('indexes/a/users','{}'); t('indexes/a/users','{"permissions":"read"}'); t('indexes/a/users','{"permissions":[1],"index_key":null}')

for case in cases:
    print(json.dumps(case, ensure_ascii=False))
