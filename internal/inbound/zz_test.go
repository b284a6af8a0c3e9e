package inbound
import ("testing";"time";"fmt")
func TestZZ(t *testing.T){
 for _,d:=range []int{2,5,8,10,12,14,16}{ s:=time.Now(); _,err:=parseBy(nested(d),time.Now().Add(20*time.Second)); fmt.Println(d,time.Since(s),err)}
 p,err:=Parse(crlf("no field at all\nFrom: <<>>\nDate: yesterday\nSubject: =?x-none?q?a?= \xff\x00\n" +
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain; charset=x-none\n\nfirst\x00\n" +
			"--b\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=a\n\n!!!*\n"))
 fmt.Printf("%+v %v\n",p,err)
 p,err=Parse(crlf("From: <<>>\nDate: yesterday\nSubject: =?x-none?q?a?= \xff\x00\n" +
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain; charset=x-none\n\nfirst\x00\n" +
			"--b\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=a\n\n!!!*\n"))
 fmt.Printf("%+v %v\n",p,err)
}
